"""The commands that the pages show are commands that there are: they parse, with their arguments and options."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from millstream.cli.declarations import commands

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAM = typer.main.get_command(commands)


def shown(page: str) -> Iterator[list[str]]:
    """The words of every command in the code blocks that are for a shell; of pipelines, each part."""
    for block in re.findall(r"^```(?:console)?\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL):
        for line in re.sub(r"\\\n\s*", "", block).splitlines():
            try:
                words = shlex.split(line.removeprefix("$ "), comments=True)
            except ValueError:  # output, with an apostrophe
                continue
            while words:
                end = next((at for at, word in enumerate(words) if word in ("|", "&&", ">", ";")), len(words))
                yield words[:end]
                words = words[end + 1 :]


ALL = sorted({tuple(words) for path in PAGES for words in shown(path.read_text()) if words})


@pytest.mark.parametrize("words", [words for words in ALL if words[0] == "millstream"], ids=" ".join)
def test_a_command_of_ours_parses(words: tuple[str, ...]) -> None:
    _, *rest = words
    with PROGRAM.make_context("millstream", rest) as context:
        command = PROGRAM
        while isinstance(command, typer.core.TyperGroup):
            name, found, rest = command.resolve_command(context, [*context._protected_args, *context.args])
            assert name is not None and found is not None
            command = found
            context = command.make_context(name, rest, parent=context)


MENTIONED = sorted({text for path in PAGES for text in re.findall(r"`millstream ([^`]+)`", path.read_text())})


@pytest.mark.parametrize("text", MENTIONED)
def test_a_command_that_is_mentioned_is_there_with_its_options(text: str) -> None:
    command = PROGRAM
    for word in text.split():
        if not isinstance(command, typer.core.TyperGroup) or not re.fullmatch(r"\w+(\|\w+)*", word):
            break
        for name in word.split("|"):
            assert name in command.commands or name == "…"
        command = command.commands[word.partition("|")[0]]
    options = {name for each in (PROGRAM, command) for parameter in each.params for name in parameter.opts}
    assert set(re.findall(r"--[\w-]+", text)) <= options | {"--help"}


@pytest.mark.parametrize("words", [words for words in ALL if words[0] == "make"], ids=" ".join)
def test_a_target_of_make_is_there(words: tuple[str, ...]) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert all("=" in word or word in targets for word in words[1:])
    variables = [word.partition("=")[0] for word in words if "=" in word]
    assert all(f"$({name})" in (ROOT / "Makefile").read_text() for name in variables)


def test_there_are_commands_to_test() -> None:
    assert len([words for words in ALL if words[0] == "millstream"]) >= 10
    assert len(MENTIONED) >= 30
    with pytest.raises(typer.TyperException):
        test_a_command_of_ours_parses(("millstream", "run", "--no-such-option"))
