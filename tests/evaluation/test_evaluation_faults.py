"""An evaluation opens no more environments than it plays, and what breaks in it costs no more than itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium
import pytest
from gymnasium import spaces

from heed.evaluation import Axis, evaluate
from heed.evaluation.axes import PlainLevel, Swapped, axis
from heed.evaluation.playing import Cell, Policy, expert_policy, held_out_seeds, play, uniform
from heed.evaluation.suites import Suite, SuiteError
from tests.buttons import Buttons

gymnasium.register(id="CountedButtons-v0", entry_point=f"{__name__}:CountedButtons")


class CountedButtons(Buttons):
    """Knows how many of it are open."""

    open: ClassVar[set[int]] = set()
    peak: ClassVar[int] = 0
    made: ClassVar[int] = 0

    def __init__(self, wrong: str = "") -> None:
        super().__init__()
        if wrong:
            raise AssertionError(wrong)
        CountedButtons.made += 1
        self._key = CountedButtons.made
        self.open.add(self._key)
        CountedButtons.peak = max(CountedButtons.peak, len(self.open))

    def close(self) -> None:
        self.open.remove(self._key)  # a second time is an error


@pytest.fixture
def _counted() -> None:
    CountedButtons.open.clear()
    CountedButtons.peak = CountedButtons.made = 0


@dataclass(frozen=True, kw_only=True)
class _Makes:
    label: str
    make: Callable[[], Any] = CountedButtons

    def make_env(self, env_id: str) -> Any:
        return self.make()


def cells(*axes: _Makes, policies: int = 2) -> list[Cell]:
    space = spaces.Discrete(3)
    named = [Policy(name=str(number), choose=uniform(space)) for number in range(policies)]
    return [Cell(env="buttons", axis=one, policy=policy) for one in axes for policy in named]


@pytest.mark.usefixtures("_counted")
@pytest.mark.parametrize(("axes", "seeds", "n_envs"), [(8, 16, 16), (8, 5, 16), (3, 40, 7), (1, 3, 64)])
def test_no_more_environments_are_open_than_are_played(axes: int, seeds: int, n_envs: int) -> None:
    played = play(cells(*(_Makes(label=str(n)) for n in range(axes))), held_out_seeds(0, seeds), n_envs=n_envs)
    assert len(played.episodes) == axes * 2 * seeds
    assert CountedButtons.peak <= n_envs
    assert not CountedButtons.open
    assert CountedButtons.made <= axes * min(n_envs, 2 * seeds)  # they are used again within an axis


@pytest.mark.usefixtures("_counted")
def test_a_kind_that_comes_again_is_opened_again() -> None:
    one, other = _Makes(label="one"), _Makes(label="other")
    played = play(cells(one, other, one, policies=1), held_out_seeds(0, 4), n_envs=3)
    assert len(played.episodes) == 12
    assert CountedButtons.peak <= 3
    assert not CountedButtons.open


@pytest.mark.usefixtures("_counted")
def test_what_is_open_is_closed_where_a_policy_of_ours_breaks() -> None:
    def broken(words: Any, generators: Any) -> Any:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        play([Cell(env="", axis=_Makes(label=""), policy=Policy(name="", choose=broken))], [1, 2, 3], n_envs=2)
    assert not CountedButtons.open


class Faulty(Buttons):
    """Does one thing wrong at its third episode, or always."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault = fault
        if fault == "make":
            raise OSError("no display")
        if fault == "space":
            self.observation_space = spaces.Box(0, 1, (1,))
        if fault == "sleep when made":
            time.sleep(5)

    def step(self, action: Any) -> Any:
        observation, reward, _, _, info = super().step(action)
        wrong: dict[str, Any] = {
            "nan": (observation, float("nan"), True, False, info),
            "tuple": (observation, reward, True, info),
            "words": ({**observation, "observation": None}, reward, True, False, info),
            "unsaid": (observation, reward, True, False, {}),
        }
        if self.fault == "sleep":
            time.sleep(5)
        return wrong.get(self.fault, (observation, reward, True, False, info))

    def close(self) -> None:
        if self.fault == "close":
            raise OSError("cannot be closed")
        if self.fault == "sleep when closed":
            time.sleep(5)

    def expert_action(self) -> int:
        if self.fault == "expert":
            raise KeyError("lost its map")
        return 0


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("make", "OSError: no display"),
        ("space", "does not speak the language contract"),
        ("nan", "FaultError: the reward was nan"),
        ("tuple", "FaultError: step returned"),
        ("words", "FaultError: the observation's 'observation' was None"),
        ("unsaid", "without info\\['is_success'\\]"),
        ("sleep", "HangError: step did not return within 0.05 s"),
        ("sleep when made", "HangError: making an environment did not return within 0.5 s"),
        ("expert", "KeyError: 'lost its map'"),
        ("close", ""),
        ("sleep when closed", ""),
    ],
)
def test_what_an_environment_does_wrong_costs_its_episodes_and_is_told(fault: str, reason: str) -> None:
    policies = (
        [expert_policy(spaces.Discrete(3))]
        if fault == "expert"
        else [Policy(name="p", choose=uniform(spaces.Discrete(3)))]
    )
    makers = [_Makes(label="bad", make=lambda: Faulty(fault)), _Makes(label="good", make=lambda: Faulty(""))]
    both = [Cell(env="", axis=one, policy=policy) for one in makers for policy in policies]
    began = time.monotonic()
    played = play(both, [1, 2], n_envs=2, timeout=0.05)
    assert time.monotonic() - began < 3
    assert len([one for one in played.episodes if one.axis == "good"]) == 2
    if not reason:
        assert not played.missing
        return
    (missing,) = played.missing
    assert (missing.axis, missing.episodes) == ("bad", 2)
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(missing.reason)


@dataclass(frozen=True, kw_only=True)
class Raises(Axis):
    """Fails in ways of its own."""

    name: ClassVar[str] = "raises"
    error: Exception | None = None
    other_actions: bool = False

    def play(self, level: PlainLevel) -> Any:
        if self.error is not None:
            raise self.error
        env = level.make()
        if self.other_actions:
            env.action_texts = ("press green", "press red", "press blue")  # type: ignore[attr-defined]
        return env

    @property
    def label(self) -> str:
        return f"raises {self.error!r} {self.other_actions}"


@pytest.mark.usefixtures("_counted")
def test_one_bad_axis_costs_its_column_and_nothing_else() -> None:
    worlds = {"CountedButtons-v0": {"wrong": "no such size"}}
    bad = (
        (axis("larger-rooms", worlds=worlds), "AssertionError: no such size"),
        (axis("more-distractors", worlds={"CountedButtons-v0": {"size": 3}}), "TypeError: .*'size'"),
        (axis("larger-rooms"), "does not know with which arguments"),
        (Raises(error=KeyError("key")), "KeyError: 'key'"),
        (Raises(error=RuntimeError("out of order")), "RuntimeError: out of order"),
        (Raises(other_actions=True), "changes the actions of CountedButtons-v0, from \\['press red'"),
    )
    plan = Suite(
        name="test",
        environments=("CountedButtons-v0", "NoSuchThing-v0"),
        axes=(axis("true"), *(one for one, _ in bad), Swapped()),
        episodes=6,
    )
    evaluation = evaluate(lambda _: 0, plan, references=False, n_envs=4)
    assert {(one.env, one.axis) for one in evaluation.episodes} == {
        ("CountedButtons-v0", "true"),
        ("CountedButtons-v0", "swapped"),
    }
    told = {one.axis: one.reason for one in evaluation.missing if one.env == "CountedButtons-v0"}
    for one, reason in bad:
        with pytest.raises(AssertionError, match=reason):
            raise AssertionError(told[one.label])
    assert len(told) == len(bad)
    assert {one.axis for one in evaluation.missing if one.env == "NoSuchThing-v0"} == {one.label for one in plan.axes}
    assert CountedButtons.peak <= 4
    assert not CountedButtons.open


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ({"axes": ["swaped"]}, "Did you mean swapped"),
        ({"axes": [{"typos": {"shares": 0.5}}]}, "no parameter 'shares'"),
        ({"axes": [{"typos": {"share": "much"}}]}, "'share' of the axis typos is of type int or float, not 'much'"),
        ({"axes": [{"changed-midway": {"after": [3, "x"]}}]}, "cannot be made with"),
        ({"axes": [{"renamed-words": {"words": {"ball": 3}}}]}, "cannot be made with"),
        ({"axes": [{"unseen-combinations": {"phrases": [3]}}]}, "cannot be made with"),
        ({"axes": [{"longer": {"form": 3}}]}, "'form' of the axis longer is of type str, not 3"),
        ({"axes": [{"typos": {"share": 3}}]}, "must be between 0 and 1"),
        ({"episode": 3}, "Did you mean episodes"),
    ],
)
def test_what_can_be_known_without_an_environment_is_refused_before_the_work(
    described: dict[str, Any], message: str, tmp_path: Any
) -> None:
    import yaml

    from heed.evaluation.suites import load_suite

    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({"name": "mine", "environments": ["CountedButtons-v0"], **described}))
    with pytest.raises(SuiteError, match=message):
        load_suite(file)
