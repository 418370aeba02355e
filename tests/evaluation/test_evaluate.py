"""`evaluate(agent, suite)`: who must follow follows, the same numbers however it is run, and nothing stops the rest."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from heed.agents import PPO
from heed.envs.make import make, make_env
from heed.evaluation import Evaluation, evaluate
from heed.evaluation.axes import axis
from heed.evaluation.playing import (
    Cell,
    Episode,
    EpisodesError,
    expert_policy,
    held_out_seeds,
    play,
    read_episodes,
    write_episodes,
)
from heed.evaluation.statistics import Following, Successes, following_score
from heed.evaluation.suites import Suite
from tests.buttons import Buttons

LEVEL = "BabyAI-GoToLocal-v0"
RED_BALL = "BabyAI-GoToRedBallNoDists-v0"


def suite(*axes: str, env: str = LEVEL, episodes: int = 60) -> Suite:
    return Suite(name="test", environments=(env,), axes=tuple(axis(name) for name in axes), episodes=episodes)


def successes(evaluation: Evaluation, axis_name: str, policy: str) -> list[bool]:
    return [one.success for one in evaluation.episodes if (one.axis, one.policy) == (axis_name, policy)]


def following(evaluation: Evaluation, policy: str) -> Following:
    """Return a policy's score, from what the evaluation holds."""
    true, blank = successes(evaluation, "true", policy), successes(evaluation, "blank", policy)
    return following_score(Successes(true=true, blank=blank, expert=successes(evaluation, "true", "expert")))


def wanderer(observation: Any) -> str:
    """Walk about and look at everything, whatever the instruction says: what it succeeds at it was not told."""
    ahead = observation["observation"].replace(";", " ;")
    blocked = any(f"{thing} 1 ahead ;" in f"{ahead} ;" for thing in ("wall", "ball", "box", "key"))
    return "turn left" if blocked or hash_of(ahead) % 4 == 0 else "go forward"


def hash_of(text: str) -> int:
    return sum(text.encode())


def test_reference_agents_get_the_scores_that_they_must() -> None:
    played = evaluate(wanderer, suite("true", "blank"))
    ignoring = following(played, "agent")
    assert 0.2 < ignoring.true.value < 0.9  # it does succeed
    assert ignoring.score is not None
    assert ignoring.score.value == 0  # as often, and on the same seeds, without an instruction

    seeds, space = held_out_seeds(0, 60), make_env(LEVEL).action_space
    cells = [Cell(env=LEVEL, axis=axis(name), policy=expert_policy(space)) for name in ("true", "blank")]
    both = play(cells, seeds).episodes
    told, pending = ([one.success for one in both if one.axis == name] for name in ("true", "blank"))
    expert = following_score(Successes(true=told, blank=pending, expert=told))
    assert np.mean(told) > 0.95
    assert np.mean(pending) < 0.6
    assert expert.score is not None
    assert expert.score.contains(1)
    assert not expert.score.contains(0.5)

    by_chance = evaluate(lambda _: int(np.random.default_rng(7).integers(7)), suite("true", "blank", episodes=20))
    assert by_chance.episodes  # a function that returns numbers plays as well
    rates = [np.mean(successes(played, "true", "random")), np.mean(pending)]
    assert rates[0] == pytest.approx(rates[1], abs=0.15)  # the expert without an instruction is lost like chance
    chance = following_score(
        Successes(true=successes(played, "true", "random"), blank=pending, expert=successes(played, "true", "expert"))
    )
    assert chance.score is not None
    assert chance.score.contains(0)
    assert not chance.score.contains(1)


@pytest.fixture(scope="module")
def agent() -> PPO:
    return PPO(env=make(LEVEL, n_envs=2, seed=0), n_steps=8, batch_size=16, seed=0)


def test_the_number_of_environments_changes_nothing(agent: PPO) -> None:
    plan = suite("true", "swapped", "injected-text", episodes=3)
    one, many = (evaluate(agent, plan, history=1, n_envs=n_envs) for n_envs in (1, 7))
    assert one == many
    assert len(one.episodes) == 3 * (3 * 2 + 2)  # sampled and greedy everywhere, chance and the expert on one axis
    assert {record["policy"] for record in one.records()} == {"sampled", "greedy", "random", "expert"}


def test_episodes_as_a_table(agent: PPO, monkeypatch: pytest.MonkeyPatch) -> None:
    pandas: Any = pytest.importorskip("pandas", reason="the extra `pandas` is not installed")
    evaluation = evaluate(agent, suite("true", "swapped", episodes=3), history=1)
    table = evaluation.to_pandas()
    assert isinstance(table, pandas.DataFrame)
    rates = table.groupby(["axis", "policy"])["success"].mean()
    assert rates["true", "expert"] == 1.0
    assert table.to_dict("records") == evaluation.records()
    none = dataclasses.replace(evaluation, episodes=()).to_pandas()
    assert (len(none), list(none)) == (0, list(table))
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'heed\[pandas\]'"):
        evaluation.to_pandas()


def test_episodes_are_those_that_are_played_by_hand(agent: PPO) -> None:
    evaluation = evaluate(agent, suite("true", episodes=3), references=False, n_envs=2)
    for episode in [one for one in evaluation.episodes if one.policy == "greedy"][:2]:
        env = make_env(LEVEL)
        observation, _ = env.reset(seed=episode.seed)
        assert episode.instruction == episode.shown == observation["instruction"]
        length, changes, total, over = 0, 0, 0.0, False
        info: dict[str, Any] = {}
        while not over:
            words = {key: [observation[key]] for key in ("instruction", "observation")}
            before = observation["observation"]
            observation, reward, terminated, truncated, info = env.step(int(agent.action_preferences(words).argmax()))
            length, total, over = length + 1, total + float(reward), terminated or truncated
            changes += observation["observation"] != before
        assert (episode.length, episode.episode_return, episode.success) == (length, total, info["is_success"])
        assert episode.activity == changes / length
        assert episode.shown_success is None


def test_a_history_is_shown_and_what_is_seen_is_still_compared() -> None:
    texts: list[str] = []

    def still(observation: Any) -> str:
        texts.append(observation["observation"])
        return "done"

    evaluation = evaluate(still, suite("true", env=RED_BALL, episodes=2), history=2, references=False, n_envs=1)
    assert {text.count("\n> ") for text in texts} == {0, 1, 2, 3}
    assert [one.activity for one in evaluation.episodes] == [0.0, 0.0]


class Crashing(Buttons):
    """Breaks in one episode of three."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.breaks = seed is not None and seed % 3 == 0
        return super().reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if self.breaks:
            raise RuntimeError("the button fell off")
        return super().step(action)


class Broken(Buttons):
    """Breaks in every episode."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if seed is not None and seed > 1000:  # not in the few episodes by which an axis finds out whether it applies
            raise OSError("no such button")
        return super().reset(seed=seed, options=options)


@pytest.fixture
def _registered() -> Any:
    for name, one in {"Crashing-v0": Crashing, "Broken-v0": Broken, "Buttons-v0": Buttons}.items():
        gymnasium.register(id=name, entry_point=f"{__name__}:{one.__name__}")
    yield
    for name in ("Crashing-v0", "Broken-v0", "Buttons-v0"):
        del gymnasium.registry[name]


def press(observation: Any) -> str:
    words = observation["instruction"].split()
    return f"press {words[2]}" if len(words) > 2 else "press red"


@pytest.mark.usefixtures("_registered")
def test_what_breaks_costs_its_episodes_and_is_told() -> None:
    plan = Suite(
        name="test",
        environments=("Crashing-v0", "Broken-v0", "NoSuchThing-v0", "Buttons-v0"),
        axes=(axis("true"), axis("blank"), axis("french")),
        episodes=30,
        seed=1,
    )
    evaluation = evaluate(press, plan, n_envs=4)
    lost = sum(seed % 3 == 0 for seed in held_out_seeds(1, 30))
    assert 0 < lost < 10
    kept = [one for one in evaluation.episodes if (one.env, one.axis, one.policy) == ("Crashing-v0", "true", "agent")]
    assert len(kept) == 30 - lost
    assert all(one.success for one in kept)
    whole = [one for one in evaluation.episodes if (one.env, one.axis, one.policy) == ("Buttons-v0", "true", "agent")]
    assert len(whole) == 30
    told = {(one.env, one.axis, one.policy): one for one in evaluation.missing}
    assert told["Crashing-v0", "true", "agent"].episodes == lost
    assert f"{lost} times RuntimeError: the button fell off" in told["Crashing-v0", "true", "agent"].reason
    assert told["Broken-v0", "true", "agent"].episodes == 30
    assert "given up after 10 lost episodes" in told["Broken-v0", "true", "agent"].reason
    assert "NoSuchThing" in told["NoSuchThing-v0", "true", ""].reason
    assert told["Buttons-v0", "french", ""].episodes == 30
    assert "no expert" in told["Buttons-v0", "true", "expert"].reason
    assert not [one for one in evaluation.episodes if one.env in ("Broken-v0", "NoSuchThing-v0")]


@pytest.mark.usefixtures("_registered")
def test_a_baseline_that_breaks_costs_its_own_episodes_only() -> None:
    plan = suite("true", env="Buttons-v0", episodes=12)
    evaluation = evaluate(press, plan, baselines={"wrong": lambda _: "jump", "constant": lambda _: 1})
    assert len(successes(evaluation, "true", "agent")) == 12
    assert len(successes(evaluation, "true", "constant")) == 12
    assert not successes(evaluation, "true", "wrong")
    (missing,) = [one for one in evaluation.missing if one.policy == "wrong"]
    assert "BaselineError: The answer was 'jump'" in missing.reason
    with pytest.raises(TypeError, match="Two policies are called 'random'"):
        evaluate(press, plan, baselines={"random": press})


@pytest.mark.usefixtures("_registered")
def test_an_environment_with_other_actions_is_missing_with_the_reason(agent: PPO) -> None:
    evaluation = evaluate(agent, suite("true", "blank", env="Buttons-v0", episodes=2))
    assert not evaluation.episodes
    assert [one.axis for one in evaluation.missing] == ["true", "blank"]
    assert "evaluate it where it has the actions that it was trained with" in evaluation.missing[0].reason


def test_evaluations_of_several_runs_stand_together(agent: PPO) -> None:
    plan = suite("true", episodes=2)
    first, second = (evaluate(agent, plan, references=False, run=name) for name in ("a", "b"))
    both = first + second
    assert [one.run for one in both.episodes] == ["a"] * 4 + ["b"] * 4
    assert [dataclasses.replace(one, run="a") for one in second.episodes] == list(first.episodes)


def an_episode(**changes: Any) -> Episode:
    plain: dict[str, Any] = {
        "env": LEVEL,
        "axis": "true",
        "policy": "sampled",
        "seed": 3,
        "instruction": "go to the red ball",
        "shown": 'go to "the", red\nball',
        "success": True,
        "shown_success": None,
        "episode_return": 0.1 + 0.2,
        "length": 4,
        "activity": 1 / 3,
    }
    return Episode(**{**plain, **changes})


def test_episodes_come_back_from_their_file(tmp_path: Path) -> None:
    episodes = [an_episode(), an_episode(success=False, shown_success=True), an_episode(run="b", level="x")]
    write_episodes(tmp_path / "episodes.csv", episodes)
    assert read_episodes(tmp_path / "episodes.csv") == episodes
    text = (tmp_path / "episodes.csv").read_text()
    for bad, sentence in ((text.replace("True", "yes", 1), "neither True nor False"), ("a,b\n1,2\n", "KeyError")):
        (tmp_path / "bad.csv").write_text(bad)
        with pytest.raises(EpisodesError, match=sentence):
            read_episodes(tmp_path / "bad.csv")
    with pytest.raises(EpisodesError, match="cannot be read"):
        read_episodes(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("instruction", "template"),
    [("go to the red ball", "go to"), ("put a key next to the box", "put"), ("the end", "the end"), ("", "")],
)
def test_the_template_is_what_stands_before_the_first_article(instruction: str, template: str) -> None:
    assert an_episode(instruction=instruction).template == template
    assert an_episode(instruction=instruction).as_record()["template"] == template
