"""Several levels as one environment: who is drawn, what is shown, and what cannot be mixed."""

from __future__ import annotations

from collections import Counter
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from heed.envs.checks import check_env
from heed.envs.contract import (
    ChangingActions,
    ContractError,
    UnknownEnvironmentError,
    action_texts_of,
    expert_of,
    fulfilled_instructions_of,
    language_space,
    possible_instructions_of,
)
from heed.envs.make import instruction_pool, make, make_env
from heed.envs.wrappers.mixture import Level, Mixture, levels_of
from heed.evaluation.axes import axis
from tests.buttons import Buttons

GO, PICK, RED = "BabyAI-GoToObjS4-v0", "BabyAI-PickupLoc-v0", "BabyAI-GoToRedBallNoDists-v0"


def level_of(env: gymnasium.Env[Any, Any], seed: int) -> str:
    return str(env.reset(seed=seed)[1]["level"])


def test_an_id_is_read_by_hand() -> None:
    assert levels_of(GO) == (Level(env_id=GO),)
    assert levels_of(f"{GO}+{PICK}@2.5") == (Level(env_id=GO), Level(env_id=PICK, weight=2.5))
    assert levels_of("a.b:C-v0 + D-v1@3")[0].env_id == "a.b:C-v0"


@pytest.mark.parametrize(
    ("env_id", "sentence"),
    [
        (f"{GO}+", "has nothing beside a `\\+`"),
        (f"{GO}+{GO}", f"names {GO} twice: give it a weight instead, as in {GO}@2"),
        (f"{GO}@0+{PICK}", "has the weight '0', but a weight is a positive number"),
        (f"{GO}@often+{PICK}", "has the weight 'often'"),
        (f"{GO}@nan+{PICK}", "has the weight 'nan'"),
        (f"{GO}+BabyAI-GoToLocl-v0", "Did you mean BabyAI-GoToLocal-v0"),
    ],
)
def test_an_id_that_cannot_be_read_is_told(env_id: str, sentence: str) -> None:
    with pytest.raises(UnknownEnvironmentError, match=sentence):
        make_env(env_id)


def test_levels_are_drawn_by_their_weights_and_the_episodes_seed() -> None:
    env = make_env(f"{GO}@3+{RED}")
    drawn = [level_of(env, seed) for seed in range(400)]
    assert drawn == [level_of(make_env(f"{GO}@3+{RED}"), seed) for seed in range(40)] + drawn[40:]
    share = Counter(drawn)[GO] / 400
    assert abs(share - 0.75) < 3 * np.sqrt(0.75 * 0.25 / 400)


def test_an_episode_is_that_of_its_level_with_the_same_seed() -> None:
    mixture, alone = make_env(f"{GO}+{PICK}"), {GO: make_env(GO), PICK: make_env(PICK)}
    for seed in range(8):
        shown, info = mixture.reset(seed=seed)
        level = alone[info["level"]]
        assert shown == level.reset(seed=seed)[0]
        over = False
        while not over:
            ours, theirs = mixture.step(2), level.step(2)
            over = bool(ours[2] or ours[3])
            assert ours[:4] == theirs[:4]
            assert ours[4]["level"] == info["level"]
        assert ours[4]["is_success"] == theirs[4]["is_success"]


def test_the_draw_of_the_level_tells_nothing_of_the_level() -> None:
    """With the seed's own generator, the levels would fall together with the first draw of their worlds."""
    env = make_env(f"{GO}+{PICK}")
    first = np.array([np.random.default_rng(seed).random() for seed in range(200)])
    drawn = np.array([level_of(env, seed) == GO for seed in range(200)])
    assert abs(np.corrcoef(first, drawn)[0, 1]) < 0.2


def test_without_a_seed_the_episodes_follow_from_the_last_one() -> None:
    def beginnings() -> list[Any]:
        env = make_env(f"{GO}+{PICK}")
        env.reset(seed=5)
        return [env.reset()[0] for _ in range(6)]

    assert beginnings() == beginnings()
    assert len({one["observation"] for one in beginnings()}) > 1


def test_blank_and_swapped_instructions_are_those_of_the_level() -> None:
    mixture = f"{GO}+{PICK}"
    true, blank, swapped = (axis(shown).make_env(mixture) for shown in ("true", "blank", "swapped"))
    for seed in range(20):
        told, info = true.reset(seed=seed)
        assert blank.reset(seed=seed)[0]["instruction"] == ""
        other = swapped.reset(seed=seed)[0]
        assert other["observation"] == told["observation"] or "start" in told["observation"] + other["observation"]
        assert other["instruction"] != told["instruction"]
        assert other["instruction"].startswith("go to " if info["level"] == GO else "pick up ")
    # A level with one instruction borrows from the others.
    one = axis("swapped").make_env(f"{RED}+{GO}")
    seed = next(seed for seed in range(20) if level_of(one, seed) == RED)
    assert one.reset(seed=seed)[0]["instruction"] in instruction_pool(GO)


def test_a_history_and_vectors_are_those_of_any_environment() -> None:
    mixture = f"{GO}+{PICK}"
    env = make(mixture, n_envs=4, seed=3, history=2)
    generator = np.random.default_rng(0)
    observations: Any = env.reset()
    levels: set[str] = set()
    for _ in range(150):
        observations, _, dones, infos = env.step(generator.integers(7, size=4))
        levels |= {info["level"] for info, done in zip(infos, dones, strict=True) if done}
    assert levels == {GO, PICK}
    again = make(mixture, n_envs=4, seed=0, history=2)
    restored = again.set_state(env.get_state())  # type: ignore[attr-defined]
    for key, texts in observations.items():
        assert list(restored[key]) == list(texts)


def test_it_runs_in_processes_and_comes_back_there() -> None:
    mixture = f"{GO}+{PICK}"
    one, many = make(mixture, n_envs=2, seed=1), make(mixture, n_envs=2, seed=1, processes=2)
    try:
        first: Any = one.reset()
        second: Any = many.reset()
        for _ in range(40):
            assert list(first["observation"]) == list(second["observation"])
            first, second = (env.step(np.array([2, 0]))[0] for env in (one, many))
        assert one.get_state() == many.get_state()  # type: ignore[attr-defined]
    finally:
        many.close()


def test_the_checker_passes_it() -> None:
    checks = check_env(f"{GO}+{RED}@2", episodes=3)
    assert [check.name for check in checks if not check.passed] == []
    assert len(checks) > 8


class OtherButtons(Buttons):
    action_texts = tuple(reversed(Buttons.action_texts))


class Pictured(Buttons):
    """Has a number as an auxiliary observation."""

    def __init__(self) -> None:
        super().__init__()
        self.observation_space = language_space(number=spaces.Discrete(3))

    def _words(self) -> Any:
        return {**super()._words(), "number": 1}


def mix(*kinds: type[gymnasium.Env[Any, Any]]) -> Mixture:
    return Mixture([kind() for kind in kinds], [Level(env_id=kind.__name__) for kind in kinds])


class Doors(gymnasium.Env[Any, Any]):
    """Ten steps along doors: at step k there are k % 3 + 2 of them to open, and the last one is the right one."""

    def __init__(self) -> None:
        self.observation_space = language_space(changing_actions=True)
        self.action_space = ChangingActions(4)
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._steps = 0
        return self._words(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        texts = self._words()["actions"]
        if not 0 <= int(action) < len(texts):
            raise ValueError(f"There is no action {action}.")
        self._steps += 1
        over = self._steps == 10
        right = int(action) == len(texts) - 1
        return self._words(), float(right), over, False, {"is_success": right} if over else {}

    def _words(self) -> dict[str, Any]:
        actions = tuple(f"open door {number}" for number in range(self._steps % 3 + 2))
        return {"instruction": "open the last door", "observation": f"step {self._steps}", "actions": actions}


def test_levels_with_other_actions_list_their_own() -> None:
    env = mix(Buttons, OtherButtons, Doors)
    assert env.action_space == ChangingActions(4)
    assert action_texts_of(env) is None
    seen: dict[str, set[tuple[str, ...]]] = {}
    for seed in range(30):
        observation, info = env.reset(seed=seed)
        over = False
        while not over:
            assert env.observation_space.contains(observation)
            seen.setdefault(info["level"], set()).add(observation["actions"])
            action = len(observation["actions"]) - 1
            observation, _, over, _, told = env.step(action)
            if over:
                assert told["level"] == info["level"]
    assert seen["Buttons"] == {Buttons.action_texts}
    assert seen["OtherButtons"] == {OtherButtons.action_texts}
    assert sorted(map(len, seen["Doors"])) == [2, 3, 4]


def test_an_action_means_the_text_that_its_level_lists() -> None:
    env = mix(Buttons, OtherButtons)
    for seed in range(20):
        observation, _ = env.reset(seed=seed)
        named = observation["instruction"].removeprefix("press the ").removesuffix(" button")
        *_, info = env.step(observation["actions"].index(f"press {named}"))
        assert info["is_success"] == (info["level"] == "Buttons" or named == "green")  # the other's words are reversed


def test_an_action_beyond_the_level_s_list_is_refused() -> None:
    env = make_env(f"{GO}+examples.boxes:Boxes-v0")
    seed = next(seed for seed in range(20) if level_of(env, seed) != GO)
    env.reset(seed=seed)
    for action in (3, -1):
        with pytest.raises(ValueError, match=rf"There is no action {action} in examples.boxes:Boxes-v0, which has 3"):
            env.step(action)


def test_a_vector_and_a_history_carry_the_lists() -> None:
    venv = make(f"{GO}+examples.boxes:Boxes-v0", n_envs=4, seed=0, history=2)
    observations: Any = venv.reset()
    listed = set()
    for _ in range(30):
        listed |= {len(actions) for actions in observations["actions"]}
        observations = venv.step(np.array([len(actions) - 1 for actions in observations["actions"]]))[0]
    assert listed == {3, 7}


def test_actions_that_are_no_choice_are_the_same_or_cannot_be_mixed() -> None:
    assert isinstance(make_env("CartPole-v1+MountainCar-v0").action_space, ChangingActions)
    with pytest.raises(ContractError, match=r"actions to choose one from: .*CartPole-v1 has Discrete\(2\), but Pend"):
        make_env("CartPole-v1+Pendulum-v1")


def test_what_all_levels_offer_the_mixture_offers_of_the_level_that_is_played() -> None:
    env = make_env(f"{GO}+{PICK}")
    expert, possible, fulfilled = expert_of(env), possible_instructions_of(env), fulfilled_instructions_of(env)
    assert expert is not None
    assert possible is not None
    levels = set()
    for seed in range(8):
        level = env.reset(seed=seed)[1]["level"]
        levels.add(level)
        alone = make_env(level)
        alone.reset(seed=seed)
        assert possible() == possible_instructions_of(alone)()  # type: ignore[misc]
        assert fulfilled() == {}
        over = False
        while not over:
            _, _, terminated, truncated, info = env.step(expert())
            over = terminated or truncated
        assert info["is_success"]
    assert levels == {GO, PICK}
    assert expert_of(make_env(f"{GO}+MiniGrid-Empty-5x5-v0")) is None


def test_other_weights_draw_other_levels_of_the_same_worlds() -> None:
    env: Any = make_env(f"{GO}+{PICK}")
    env.set_weights((0.0, 5.0))
    assert {level_of(env, seed) for seed in range(20)} == {PICK}
    assert env.reset(seed=3)[0] == make_env(PICK).reset(seed=3)[0]
    for weights, message in (
        ((1.0,), "There are 1 weights for 2"),
        ((0.0, 0.0), "not all of them 0"),
        ((1, -1), "0 on"),
    ):
        with pytest.raises(ValueError, match=message):
            env.set_weights(weights)


def test_an_auxiliary_observation_is_shown_where_all_levels_have_it() -> None:
    assert set(mix(Pictured, Pictured).reset(seed=0)[0]) == {"instruction", "observation", "number"}
    mixed = mix(Buttons, Pictured)
    for seed in range(10):
        observation = mixed.reset(seed=seed)[0]
        assert set(observation) == {"instruction", "observation"}
        assert mixed.observation_space.contains(observation)


def test_it_draws_pictures_where_all_levels_do() -> None:
    env = make_env(f"{GO}+{RED}", render_mode="rgb_array")
    env.reset(seed=0)
    assert env.render().shape[2] == 3  # type: ignore[union-attr]
    assert "rgb_array" in env.metadata["render_modes"]
    assert mix(Buttons, Buttons).metadata["render_modes"] == []
