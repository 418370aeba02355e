"""Several levels as one environment: who is drawn, what is shown, and what cannot be mixed."""

from __future__ import annotations

from collections import Counter
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from heed.envs.axes import axis
from heed.envs.checks import check_env
from heed.envs.contract import ContractError, language_space
from heed.envs.make import UnknownEnvironmentError, instruction_pool, make, make_env
from heed.envs.mixture import Level, Mixture, levels_of
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
            assert ours[4].get("level") == (info["level"] if over else None)
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
    """Shows a number beside the words."""

    def __init__(self) -> None:
        super().__init__()
        self.observation_space = language_space(number=spaces.Discrete(3))

    def _words(self) -> Any:
        return {**super()._words(), "number": 1}


def mix(*kinds: type[Buttons]) -> Mixture:
    return Mixture([kind() for kind in kinds], [Level(env_id=kind.__name__) for kind in kinds])


def test_other_actions_cannot_be_mixed() -> None:
    with pytest.raises(ContractError, match=r"the same actions, in the same order: Buttons has .* OtherButtons has"):
        mix(Buttons, OtherButtons)
    with pytest.raises(ContractError, match="must have the same actions"):
        make_env(f"{GO}+CartPole-v1")
    with pytest.raises(ContractError, match="must have the same actions"):
        make_env("CartPole-v1+Pendulum-v1")


def test_what_stands_beside_the_words_is_shown_where_all_levels_have_it() -> None:
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
