"""The examples of the page about testing, run as a reader would run them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from tests.support.processes import run_pytest

ROOT = Path(__file__).parents[2]


def test_examples_pass_in_a_project_without_configuration(tmp_path: Path) -> None:
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "testing.md").read_text(), flags=re.DOTALL)
    shutil.copy(ROOT / "examples" / "plant.py", tmp_path)
    for number, example in enumerate(examples):
        (tmp_path / f"test_{number}.py").write_text(example)
    code, said = run_pytest(tmp_path, "-p", "no:asyncio", "-p", "no:anyio")
    assert code == 0, said
    tests = sum(len(re.findall(r"^(?:async )?def test_", example, flags=re.MULTILINE)) for example in examples)
    assert tests >= len(examples) >= 6  # every example is a test


def test_first_example_is_the_one_that_stands_beside_the_application() -> None:
    page = (ROOT / "docs" / "testing.md").read_text()
    example = (ROOT / "examples" / "test_plant.py").read_text()
    test = example[example.index("async def") :].replace(" -> None", "")
    assert test in page
    assert test in (ROOT / "README.md").read_text()
