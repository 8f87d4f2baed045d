"""From what the command line names to an app."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from millstream.app import load_app
from millstream.errors import AppError

Write = Callable[..., Path]


PLANT = """
    from millstream import App, Event

    app = App("plant")
    same = app

    @app.on("door")
    def opened(event: Event) -> None: ...
"""


def test_file_is_loaded_and_its_groups_have_its_stem(write: Write) -> None:
    write("plant_a.py", PLANT)
    app = load_app("plant_a.py")
    assert (app.name, app.handlers[0].group) == ("plant", "plant_a.opened")


def test_file_is_loaded_anew_each_time(write: Write) -> None:
    write("plant_b.py", PLANT)
    first = load_app("plant_b.py")
    write("plant_b.py", PLANT.replace('"plant"', '"mill"'))
    assert (first.name, load_app("plant_b.py").name) == ("plant", "mill")


def test_module_and_its_attribute_are_loaded(write: Write) -> None:
    write("plants/__init__.py", "")
    write("plants/plant_c.py", PLANT)
    assert load_app("plants.plant_c").name == "plant"
    assert load_app("plants.plant_c:same").name == "plant"


def test_file_may_import_its_neighbours(write: Write) -> None:
    write("folder/neighbour_d.py", "NAME = 'plant'")
    write("folder/plant_d.py", "from millstream import App\nfrom neighbour_d import NAME\napp = App(NAME)\n")
    assert load_app("folder/plant_d.py").name == "plant"


def test_one_of_several_is_named(write: Write) -> None:
    path = write("plant_e.py", "from millstream import App\na = App('a')\nb = App('b')\n")
    assert load_app(f"{path}:b").name == "b"
    with pytest.raises(AppError, match=r"several apps \(a, b\); say which: plant_e.py:a"):
        load_app("plant_e.py")
    with pytest.raises(AppError, match="no App named 'c'; it has a, b"):
        load_app("plant_e.py:c")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = 1\n", "no App; write: app = App('name')"),
        ("x = 1\ny = missing\n", "plant_f.py:2: NameError: name 'missing' is not defined"),
        ("def broken(:\n", "plant_f.py:1: SyntaxError"),
        ("import sys\nsys.exit(0)\n", "plant_f.py ends the program"),
        ("import missing_module\n", "plant_f.py:1: ModuleNotFoundError: No module named 'missing_module'"),
        ("import json\n\njson.loads('{')\n", "plant_f.py:3: JSONDecodeError"),
        ("from millstream import App\napp = App('a')\napp.stream('s', 'x/{')\n", "plant_f.py:3: stream 's'"),
    ],
)
@pytest.mark.parametrize("target", ["plant_f.py", "plant_f"])
def test_error_in_the_users_code_is_told_at_its_line(write: Write, target: str, text: str, says: str) -> None:
    write("plant_f.py", text)
    with pytest.raises(AppError) as raised:
        load_app(target)
    told = str(raised.value).replace("plant_f ends", "plant_f.py ends")
    assert says in told
    assert "millstream/app" not in told


@pytest.mark.parametrize("target", ["missing.py", "missing.py:app", "missing_g", "missing_g.inner", "missing_g:app"])
def test_what_is_not_there_is_told(write: Write, target: str) -> None:
    with pytest.raises(AppError, match=r"no (file|module) '"):
        load_app(target)


def test_name_of_a_module_that_is_there_is_refused(write: Write) -> None:
    write("json.py", PLANT)
    with pytest.raises(AppError, match="rename the file"):
        load_app("json.py")
