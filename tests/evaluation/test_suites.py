"""Suites as data: those that ship, those of one's own in YAML and Python, and what is said where one cannot be."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from heed.envs.contract import UnknownEnvironmentError
from heed.evaluation.axes import AxisDoesNotApplyError, AxisError, axis, axis_names
from heed.evaluation.suites import SHIPPED, Suite, SuiteError, load_suite

GO = "BabyAI-GoToLocal-v0"


@pytest.mark.parametrize("name", SHIPPED)
def test_what_ships_can_be_played(name: str) -> None:
    suite = load_suite(name).with_phrases(["red ball"])
    assert suite.name == name
    cells = list(suite.cells())
    assert len(cells) == len(suite.environments) * len(suite.axes)
    for env_id, one in cells:
        one.make_env(env_id).reset(seed=0)


def test_what_ships() -> None:
    assert SHIPPED == ("babyai-core", "babyai-generalisation", "glam", "smoke", "word-order")
    every = load_suite("babyai-generalisation")
    # One needs instructions with two things.
    assert [one.name for one in every.axes] == [name for name in axis_names() if name != "swapped-roles"]
    assert GO in every.environments
    assert every.episodes == 512


def test_a_suite_in_yaml(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        f"name: mine\nenvironments: [{GO}, my.module:Kitchen-v0]\n"
        "axes: [true, swapped, typos: {share: 0.8}, blank:]\nepisodes: 12\nseed: 3\n"
    )
    suite = load_suite(path)
    assert suite == load_suite(str(path)) == Suite.from_yaml(path)
    assert suite == Suite(
        name="mine",
        environments=(GO, "my.module:Kitchen-v0"),
        axes=(axis("true"), axis("swapped"), axis("typos", share=0.8), axis("blank")),
        episodes=12,
        seed=3,
    )
    assert [env_id for env_id, _ in suite.cells()] == [GO] * 4 + ["my.module:Kitchen-v0"] * 4
    assert [one.label for _, one in suite.cells()] == ["true", "swapped", "typos(share=0.8)", "blank"] * 2


@pytest.mark.parametrize("name", SHIPPED)
def test_a_suite_comes_back_from_its_json_and_yaml(name: str, tmp_path: Path) -> None:
    suite = load_suite(name).with_phrases(("purple key",))
    assert Suite.from_json(json.loads(json.dumps(suite.as_json()))) == suite
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(suite.as_json()))
    assert Suite.from_yaml(tmp_path / "again.yaml") == suite


def test_the_least_that_a_suite_needs() -> None:
    suite = Suite.from_json({"name": "least", "environments": [GO]})
    assert [one.name for one in suite.axes] == ["true"]
    assert (suite.episodes, suite.seed) == (512, 0)


def test_the_phrases_of_a_training_reach_the_axis_that_asks_for_them() -> None:
    suite = load_suite("babyai-generalisation")
    about = suite.with_phrases(("purple key", "yellow ball"))
    assert axis("unseen-combinations", phrases=["purple key", "yellow ball"]) in about.axes
    assert len(about.axes) == len(suite.axes)
    assert about.with_phrases(("red box",)) == about  # its own stay
    assert suite.with_phrases(()) is suite


def test_what_cannot_be_played_fails_when_it_is_played_and_not_before() -> None:
    suite = Suite.from_json({"name": "x", "environments": ["Nowhere-v0", "CartPole-v1"], "axes": ["french"]})
    (nowhere, french), (cart_pole, _) = suite.cells()
    with pytest.raises(UnknownEnvironmentError):
        french.make_env(nowhere)
    with pytest.raises(AxisDoesNotApplyError):
        french.make_env(cart_pole)


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ([1], "A suite is a mapping with name, environments and axes, not [1]"),
        ({}, "A suite needs `name`, and this one has nothing."),
        ({"name": "x"}, "A suite needs `environments`, and this one has name."),
        ({"name": "x", "enviroments": [GO]}, "A suite has no 'enviroments'. Did you mean environments?"),
        ({"name": 3, "environments": [GO]}, "The `name` of a suite is a word, not 3."),
        ({"name": "", "environments": [GO]}, "A suite needs `name`, and this one has none."),
        ({"name": "x", "environments": GO}, f"The `environments` of a suite is a list of ids, not '{GO}'."),
        ({"name": "x", "environments": []}, "A suite needs `environments`, and x has none."),
        (
            {"name": "x", "environments": [{}]},
            "An environment of a suite is an id such as BabyAI-GoToLocal-v0, not {}.",
        ),
        ({"name": "x", "environments": [GO, GO]}, f"The suite x names {GO} twice."),
        ({"name": "x", "environments": [GO], "axes": "true"}, "The `axes` of a suite is a list, not 'true'."),
        ({"name": "x", "environments": [GO], "axes": []}, "A suite needs `axes`, and x has none."),
        ({"name": "x", "environments": [GO], "axes": ["blank", "blank"]}, "The suite x names blank twice."),
        ({"name": "x", "environments": [GO], "axes": ["synonym"]}, "no axis 'synonym'. Did you mean synonyms"),
        ({"name": "x", "environments": [GO], "episodes": True}, "The `episodes` of a suite is a number, not True."),
        ({"name": "x", "environments": [GO], "episodes": 0}, "The suite x has episodes 0: at least 1 is needed."),
        ({"name": "x", "environments": [GO], "seed": -1}, "The suite x has seed -1: at least 0 is needed."),
    ],
)
def test_what_is_no_suite_is_told_with_the_file(described: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises((SuiteError, AxisError), match=re.escape(message)):
        Suite.from_json(described)
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump(described))
    with pytest.raises(SuiteError, match=rf"bad.yaml: .*{re.escape(message)}"):
        load_suite(path)


def test_a_suite_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=r"no suite 'babyai-generalization'. Did you mean babyai-generalisation"):
        load_suite("babyai-generalization")
    with pytest.raises(SuiteError, match=r"There are babyai-core, .* word-order. A suite of your own is"):
        load_suite("qqq")
    with pytest.raises(SuiteError, match=r"none.yaml cannot be read: No such file"):
        load_suite(tmp_path / "none.yaml")
    (tmp_path / "torn.yaml").write_text("name: [")
    with pytest.raises(SuiteError, match=r"torn.yaml is no YAML"):
        load_suite(tmp_path / "torn.yaml")


def test_a_suite_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        load_suite("smoke").seed = 4  # type: ignore[misc]
    assert len({load_suite("smoke"), load_suite("smoke")}) == 1
