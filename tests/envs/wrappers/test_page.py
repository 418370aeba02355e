"""The page on wrappers: its code runs and prints what it says, and it names what there is."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from heed.envs import Curriculum, Task, make
from heed.envs.wrappers.task import Moment
from heed.training.options import TrainConfig

PAGE = (Path(__file__).parents[3] / "docs" / "wrappers.md").read_text("utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """Forget the environment that the page registers."""
    yield
    gymnasium.registry.pop("ThingsAndWalls-v0", None)


@pytest.mark.parametrize("code", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_prints_what_it_says(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(code, "page", "exec", dont_inherit=True), names)
    for printed in capsys.readouterr().out.splitlines():
        assert f"# {printed}" in code
    assert ("print(" in code) == ("# " in code)


def test_the_page_names_every_field_and_option() -> None:
    for field in (*dataclasses.fields(Task), *dataclasses.fields(Moment)):
        assert f"`{field.name}`" in PAGE
    for field in dataclasses.fields(Curriculum):
        assert f"{field.name}={field.default!r}".replace("'", '"') in PAGE
    for line in re.findall(r"heed train (.*)", PAGE):
        for option in re.findall(r"--([a-z-]+)", line):
            assert option.replace("-", "_") in {field.name for field in dataclasses.fields(TrainConfig)}


def test_the_file_for_the_command_line_makes_vectors_with_a_curriculum() -> None:
    (code,) = (code for code in EXAMPLES if "gymnasium.register" in code)
    exec(compile(code, "page", "exec", dont_inherit=True), {"__name__": "page"})
    venv: Any = make("ThingsAndWalls-v0", n_envs=8, seed=0, max_steps=9, curriculum=Curriculum())
    assert set(venv.reset()["instruction"]) > {"walk to a wall"}
    assert set(venv.sampling_weights) == {"the environment's own", "walk to a wall"}
