"""What all axes have in common: the world stays, draws follow from the seed, names and parameters are checked."""

from __future__ import annotations

import dataclasses
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest

from heed.envs.checks import check_env
from heed.envs.make import instruction_pool, make_env
from heed.envs.wrappers.shown import generator_of
from heed.evaluation import axes
from heed.evaluation.axes import (
    Axis,
    AxisDoesNotApplyError,
    AxisError,
    Rewording,
    axis,
    axis_from,
    axis_names,
    examples,
)
from heed.evaluation.axes.files import FOLDER
from heed.evaluation.axes.registry import _registry

GO, PICK, PUT = "BabyAI-GoToLocal-v0", "BabyAI-PickupLoc-v0", "BabyAI-PutNextLocal-v0"
SAME_WORLD = [name for name in axis_names() if axis(name).same_world]
CHANGES_OBSERVATIONS = ("renamed-words", "new-nouns", "invented-words", "injected-text")
ENDS_EARLIER = ("swapped", "swapped-roles", "injected-text")


def play(env: gymnasium.Env[Any, Any], seed: int, steps: int = 70) -> list[tuple[Any, ...]]:
    """The grid, observation, reward and end of every step of an episode with fixed actions."""
    observation, _ = env.reset(seed=seed)
    level: Any = env.unwrapped
    told: list[tuple[Any, ...]] = [(level.grid.encode().tobytes(), level.agent_pos, observation["observation"])]
    actions = np.random.default_rng(seed)
    for _ in range(steps):
        observation, *result, _ = env.step(int(actions.choice(7, p=[0.15, 0.15, 0.4, 0.1, 0.1, 0.05, 0.05])))
        told.append((level.grid.encode().tobytes(), level.agent_pos, observation["observation"], *result))
        if any(result[1:]):
            break
    return told


@pytest.mark.parametrize("env_id", [GO, PICK, PUT])
def test_the_world_of_a_seed_is_the_same_on_all_axes(env_id: str) -> None:
    plain = {seed: play(make_env(env_id), seed) for seed in (0, 1)}
    for name in SAME_WORLD if env_id == PUT else sorted({*SAME_WORLD} - {"swapped-roles"}):
        env = axis(name).make_env(env_id)
        for seed, expected in plain.items():
            found = play(env, seed)
            if name in ENDS_EARLIER:
                expected, found = expected[: len(found) - 1], found[:-1]
            if name in CHANGES_OBSERVATIONS:
                expected, found = ([(*step[:2], *step[3:]) for step in steps] for steps in (expected, found))
            assert found == expected, name


@pytest.mark.parametrize("name", axis_names())
def test_every_axis_tells_the_true_instruction_and_what_it_shows(name: str) -> None:
    parameters = {"phrases": ["red ball", "grey key"]} if name == "unseen-combinations" else {}
    made = axis(name, **parameters)
    level = PUT if name == "swapped-roles" else GO
    env, plain = made.make_env(level), make_env(level)
    for seed in (3, 4):
        _, first = env.reset(seed=seed)
        if made.same_world:
            assert first["instruction"] == plain.reset(seed=seed)[0]["instruction"]
        assert isinstance(first["shown"], str)
        done = False
        while not done:
            _, _, terminated, truncated, info = env.step(2)
            assert not (terminated and truncated)
            done = terminated or truncated
            assert ("instruction" in info) == done
        assert (info["instruction"], info["shown"]) == (first["instruction"], first["shown"])
        assert isinstance(info["is_success"], bool)
        assert isinstance(info.get("shown_success", False), bool)


@pytest.mark.parametrize("name", sorted({*axis_names()} - {"blank", "unseen-combinations"}))
def test_every_axis_keeps_the_contract(name: str) -> None:
    level = {"more-distractors": GO, "swapped-roles": PUT}.get(name, PICK)
    checks = check_env(lambda: axis(name).make_env(level), episodes=2)
    assert [check.detail for check in checks if not check.passed] == []


@pytest.mark.parametrize("name", ["swapped", "paraphrase", "typos", "unseen-words", "changed-midway", "injected-text"])
def test_what_an_axis_draws_follows_from_the_seed_alone(name: str) -> None:
    seeds = range(8)
    first = list(examples(axis(name), GO, seeds=seeds))
    assert list(examples(axis(name), GO, seeds=seeds)) == first
    assert list(examples(axis(name), GO, seeds=list(reversed(seeds)))) == list(reversed(first))
    assert len({example.shown for example in first}) > 4


def test_draws_of_axes_are_unrelated_to_each_other_and_to_the_worlds() -> None:
    names = ("swapped", "typos", "longer")
    draws = np.array([[generator_of(seed, name).random() for name in names] for seed in range(400)])
    worlds = np.array([[np.random.default_rng(seed).random()] for seed in range(400)])
    correlations = np.corrcoef(np.hstack([draws, worlds]).T) - np.eye(4)
    assert np.abs(correlations).max() < 0.15


def test_without_a_seed_the_episodes_follow_from_the_last_one() -> None:
    def shown() -> list[str]:
        env = axis("swapped").make_env(GO)
        env.reset(seed=1)
        return [env.reset()[0]["instruction"] for _ in range(5)]

    assert shown() == shown()
    assert len(set(shown())) > 2


def test_a_history_remembers_what_the_agent_saw() -> None:
    env = axis("injected-text", text="obey: {instruction}").make_env(GO, history=2)
    observation, info = env.reset(seed=0)
    text = f"obey: {info['shown']}; "
    assert observation["observation"].startswith(text)
    assert env.step(0)[0]["observation"].count(text) == 2


def test_in_a_mixture_each_level_is_changed_by_itself() -> None:
    env = axis("french").make_env(f"{GO}+{PICK}", history=1)
    verbs = {(info["level"], words["instruction"].split()[0]) for words, info in (env.reset(seed=s) for s in range(12))}
    assert verbs == {(GO, "va"), (PICK, "ramasse")}
    with pytest.raises(AxisDoesNotApplyError, match=f"more-distractors does not know .* {PICK}"):
        axis("more-distractors").make_env(f"{GO}+{PICK}")


@dataclass(frozen=True, kw_only=True)
class Shouting(Rewording):
    """The instruction is shouted."""

    name: ClassVar[str] = "shouting"
    times: int = 1

    def reword(self, instruction: str, generator: np.random.Generator) -> str:
        return instruction.upper() + "!" * self.times


def test_an_axis_of_ones_own_takes_a_few_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(axes.registry, "_registry", dict(_registry))
    axes.register_axis(Shouting)
    assert axis_names()[-1] == "shouting"
    made = axis("shouting", times=2)
    assert made.description == "The instruction is shouted."
    (example,) = examples(made, GO, seeds=[0])
    assert example.instruction == f"{example.true.upper()}!!"
    assert example.axis == "shouting(times=2)"


@pytest.mark.parametrize(
    ("name", "parameters", "label"),
    [
        ("swapped", {}, "swapped"),
        ("typos", {"share": 0.9}, "typos(share=0.9)"),
        ("unseen-combinations", {"phrases": ["a b", "c"]}, "unseen-combinations(phrases=a b + c)"),
        ("changed-midway", {"after": [1, 2]}, "changed-midway(after=1 + 2)"),
        ("renamed-words", {"words": {"red": "dax"}}, "renamed-words(words=red: dax)"),
        ("larger-rooms", {"worlds": {GO: {"room_size": 9}}}, f"larger-rooms(worlds={GO}: [['room_size', 9]])"),
    ],
)
def test_an_axis_comes_back_from_its_json(name: str, parameters: dict[str, Any], label: str) -> None:
    made = axis(name, **parameters)
    assert made.label == label
    assert axis_from(made.as_json()) == made
    assert hash(made) == hash(axis_from(made.as_json()))
    assert made.description.endswith((".", "?"))
    assert axis_from({name: parameters}) == made


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ("swaped", "There is no axis 'swaped'. Did you mean swapped"),
        ("zzz", "There is no axis 'zzz'. There are true, blank, swapped,"),
        ({"blank": {"x": 1}}, "The axis blank has no parameter 'x': it takes none."),
        ({"typos": {"shares": 1}}, "no parameter 'shares': it takes share. Did you mean share?"),
        ({"typos": {"share": -1}}, "cannot be made with {'share': -1}: share is -1, but must be between 0 and 1"),
        ({"changed-midway": {"after": [6, 3]}}, "must be two numbers of steps"),
        ({"longer": {"form": "do {second}"}}, "'do {second}' needs {first} and {second}, and no other field"),
        ({"injected-text": {"text": "{a} {instruction}"}}, "needs {instruction}, and no other field"),
        ({"unseen-combinations": {"phrases": [""]}}, "A phrase to hold out is some words"),
        ({"unseen-combinations": {"phrases": "purple key"}}, "are a list such as"),
        ({"renamed-words": {"words": {"red": "blue"}}}, "'red' and 'blue' would both be called 'blue'"),
        ({"unseen-words": {"words": "verbs"}}, "must be colors, nouns or either"),
        ({"larger-rooms": {"worlds": 3}}, "worlds is 3, but must be such as {MyWorld-v0: {boxes: 8}}"),
        ({"a": {}, "b": {}}, "An axis is a name, or a name with parameters"),
        (7, "An axis is a name, or a name with parameters"),
    ],
)
def test_what_is_no_axis_is_told(description: Any, message: str) -> None:
    with pytest.raises(AxisError) as raised:
        axis_from(description)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("name", "env_id", "message"),
    [
        ("swapped", "BabyAI-GoToRedBallNoDists-v0", r"swapped has nothing else to show.*only \('go to the red ball'\)"),
        ("french", "CartPole-v1", "reads instructions of BabyAI's grammar, which 'keep the pole upright on the cart'"),
        ("synonyms", "FrozenLake-v1", "reads instructions of BabyAI's grammar"),
        ("unseen-words", "CartPole-v1", "replaces one of the words red, .*'keep the pole"),
        ("renamed-words", "FrozenLake-v1", "replaces one of the words red"),
        (
            "longer",
            "FrozenLake-v1",
            "needs another instruction, to be fulfilled before the true one, and FrozenLake-v1 knows",
        ),
        ("longer", "BabyAI-GoToRedBallNoDists-v0", "knows of none"),
        ("impossible", "CartPole-v1", "needs instructions that cannot be done, and CartPole-v1 knows of none"),
        ("unseen-combinations", GO, "needs the phrases that were held out at training, and none were"),
        ("more-distractors", "CartPole-v1", "does not know with which arguments to make CartPole-v1"),
        ("swapped-roles", GO, "swaps the two things of an instruction.*and BabyAI-GoToLocal-v0 gives .* in only 0%"),
        ("swapped-roles", "BabyAI-MixedTrainLocal-v0", r"in only \d\d% of its episodes"),
        ("new-nouns", "CartPole-v1", "renames ball, box, key, door, object: 'keep the pole"),
        ("injected-text", "CartPole-v1", r"one instruction only \('keep the pole"),
    ],
)
def test_where_an_axis_has_no_meaning_it_says_why(name: str, env_id: str, message: str) -> None:
    with pytest.raises(AxisDoesNotApplyError, match=message):
        axis(name).make_env(env_id)


@pytest.mark.parametrize("name", ["blank", "paraphrase", "typos", "case-and-punctuation"])
def test_some_axes_apply_to_any_instruction(name: str) -> None:
    (example,) = examples(axis(name), "CartPole-v1", seeds=[0])
    assert example.true == "keep the pole upright on the cart"
    assert example.instruction != example.true
    assert example.instruction == example.shown


def test_base_class_is_abstract() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Axis()  # type: ignore[abstract]
    assert instruction_pool(GO)  # its levels are those of `make_env`


def test_the_code_of_the_page_on_axes_does_what_the_page_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "evaluation-axes.md").read_text("utf-8")
    monkeypatch.setattr(axes.registry, "_registry", dict(_registry))
    monkeypatch.chdir(tmp_path)
    (suite,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    Path("kitchens.yaml").write_text(suite)
    shutil.copy(FOLDER / "french.yaml", "german.yaml")
    codes = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {"__name__": "page"}
    for code in codes:
        # A file of its own gives dataclasses their annotations as these are written.
        exec(compile(code, "page", "exec", dont_inherit=True), names)
        printed = capsys.readouterr().out.strip()
        if "LEVELS" in code:
            assert printed in page
        elif printed:
            assert f"# {printed}" in code
    for name, instruction in (("shouting", "GO TO THE GREEN BALL!"), ("german", "va jusqu'à la balle verte")):
        (example,) = examples(axis(name), GO, seeds=[0])
        assert example.instruction == instruction
    (example,) = examples(axis("in-fog"), GO, seeds=[0])
    assert ";" not in example.observation
    assert set(axis_names()[-3:]) == {"shouting", "german", "in-fog"}
    # The page names every axis, and every parameter with its default.
    for own in axes.OWN_AXES:
        assert f"`{own.name}`" in page
        for field in dataclasses.fields(own):
            assert f"`{field.name}`" in page.split("## Parameters")[1].split("## An axis")[0]
