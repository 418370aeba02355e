"""Words for environments that do not speak: the automatic ones, and who chooses the verbalizer."""

import re
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from heed.envs.babyai.words import MiniGridVerbalizer
from heed.envs.classic.classic_control import PendulumVerbalizer
from heed.envs.classic.toy_text import TaxiVerbalizer
from heed.envs.contract import (
    ChangingActions,
    ContractError,
    ExpertError,
    expert_of,
    require_language_env,
    sample_action,
)
from heed.envs.make import make_env
from heed.envs.words import verbalize
from heed.envs.words.masks import MaskedActions
from heed.envs.words.verbalize import (
    AutomaticVerbalizer,
    VerbalizedEnv,
    Verbalizer,
    register_verbalizer,
    verbalizer_for,
)

TAXI = "Taxi-v4" if "Taxi-v4" in gymnasium.registry else "Taxi-v3"


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verbalize, "_registry", {})


def play(env: gymnasium.Env[Any, Any], actions: Iterator[Any]) -> tuple[float, bool, bool, dict[str, Any]]:
    """Play an episode; return the return, the two ends and the last step's info."""
    env.reset(seed=0)
    total = 0.0
    for action in actions:
        words, reward, terminated, truncated, info = env.step(action)
        assert env.observation_space.contains(words)
        total += float(reward)
        if terminated or truncated:
            return total, terminated, truncated, info
        assert "is_success" not in info
    raise AssertionError("the episode did not end")


def forever(action: Any) -> Iterator[Any]:
    while True:
        yield action


def automatic(env_id: str, **options: Any) -> VerbalizedEnv:
    return VerbalizedEnv(AutomaticVerbalizer(gymnasium.make(env_id, **options)))


def test_cartpole() -> None:
    env = automatic("CartPole-v1")
    words, _ = env.reset(seed=0)
    assert words["instruction"] == "collect as much reward as you can"
    assert words["observation"] == (
        "cart position 0.0137; cart velocity -0.023; pole angle -0.0459; pole angular velocity -0.0483"
    )
    np.testing.assert_allclose(words["numbers"], env.unwrapped.state, rtol=1e-6)  # type: ignore[attr-defined, typeddict-item]
    assert env.get_wrapper_attr("action_texts") == ("push cart to the left", "push cart to the right")


def test_changes_since_the_last_step_are_told_on_request() -> None:
    env = VerbalizedEnv(AutomaticVerbalizer(gymnasium.make("CartPole-v1"), changes=True, digits=2))
    first = "cart position 0.014; cart velocity -0.023; pole angle -0.046; pole angular velocity -0.048"
    assert env.reset(seed=0)[0]["observation"] == first
    assert env.step(1)[0]["observation"] == (
        "cart position 0.013 (-0.00046); cart velocity 0.17 (+0.2); pole angle -0.047 (-0.00097); "
        "pole angular velocity -0.36 (-0.31)"
    )
    assert env.reset(seed=0)[0]["observation"] == first  # a new episode has no step before


def test_changes_are_right_where_an_environment_goes_on_with_its_array() -> None:
    class Counting(Told):
        observation_space = spaces.Box(0, 9, (1,), dtype=np.int64)

        def __init__(self) -> None:
            super().__init__(0.0, False, {})
            self._count = np.zeros(1, dtype=np.int64)

        def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            self._count += 1
            return self._count, 0.0, False, False, {}

        def reset(self, **_: Any) -> tuple[Any, dict[str, Any]]:
            return self._count, {}

    env = VerbalizedEnv(AutomaticVerbalizer(Counting(), changes=True))
    assert env.reset()[0]["observation"] == "0"
    assert env.step(0)[0]["observation"] == "1 (+1)"


def test_an_environment_may_say_what_to_do_in_a_field() -> None:
    class Sent(Told):
        observation_space = spaces.Dict(mission=spaces.Text(99), place=spaces.Discrete(9))

        def reset(self, **_: Any) -> tuple[Any, dict[str, Any]]:
            return {"mission": "go to 3", "place": 5}, {}

    words, _ = VerbalizedEnv(AutomaticVerbalizer(Sent(0.0, True, {}))).reset()
    assert words == {"instruction": "go to 3", "observation": "place 5"}
    told = AutomaticVerbalizer(gymnasium.make("CartPole-v1"), instruction="keep the pole up")
    assert VerbalizedEnv(told).reset()[0]["instruction"] == "keep the pole up"


def test_dropped_pole_is_no_success() -> None:
    # Its last step is rewarded too, so the reward of an end by its own rules says nothing here.
    total, terminated, _, info = play(automatic("CartPole-v1"), forever(0))
    assert terminated
    assert total < 20
    assert info["is_success"] is False


def test_reached_reward_threshold_is_success() -> None:
    env = automatic("CartPole-v1", max_episode_steps=500)
    balancing = env.unwrapped

    def balance() -> Iterator[int]:
        while True:
            _, _, angle, speed = balancing.state  # type: ignore[attr-defined]
            yield int(angle + 0.3 * speed > 0)

    total, terminated, truncated, info = play(env, balance())
    assert (total, terminated, truncated) == (500.0, False, True)
    assert info["is_success"] is True
    # The count starts anew with each episode.
    assert play(env, forever(0))[3]["is_success"] is False


def test_box_actions_need_no_texts() -> None:
    env = automatic("Pendulum-v1")
    assert env.get_wrapper_attr("action_texts") is None
    assert isinstance(env.action_space, spaces.Box)
    _, terminated, truncated, info = play(env, forever(np.zeros(1, dtype=np.float32)))
    assert (terminated, truncated, info["is_success"]) == (False, True, False)


class Told(gymnasium.Env[Any, Any]):
    """Ends at once, with what it was told to say."""

    observation_space: spaces.Space[Any] = spaces.Discrete(2)
    action_space = spaces.Discrete(2)

    def __init__(self, reward: float, terminated: bool, info: dict[str, Any]):
        self._end = (reward, terminated, info)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        reward, terminated, info = self._end
        return 1, reward, terminated, not terminated, dict(info)

    def get_action_meanings(self) -> list[str]:
        return ["NOOP", "FIRE"]


@pytest.mark.parametrize(
    ("reward", "terminated", "info", "success"),
    [
        (1.0, True, {}, True),
        (0.0, True, {}, False),
        (1.0, False, {}, False),  # cut off by a limit
        (1.0, True, {"is_success": False}, False),  # the environment knows better
        (0.0, False, {"is_success": np.True_}, True),
    ],
)
def test_success(reward: float, terminated: bool, info: dict[str, Any], success: bool) -> None:
    env = VerbalizedEnv(AutomaticVerbalizer(Told(reward, terminated, info)))
    env.reset()
    assert env.step(0)[4]["is_success"] is success


def test_action_meanings_become_action_texts() -> None:
    assert AutomaticVerbalizer(Told(0, True, {})).action_texts() == ("noop", "fire")


class Named(AutomaticVerbalizer):
    """A verbalizer that a user has written."""

    resets = 0

    def on_reset(self) -> None:
        self.resets += 1

    def action_texts(self) -> tuple[str, ...]:
        return ("push left", "push right")


class OtherNamed(Named):
    pass


def chosen(env_id: str) -> type[Verbalizer]:
    return type(verbalizer_for(gymnasium.make(env_id), env_id))


def test_registered_verbalizer_is_used() -> None:
    register_verbalizer("CartPole-*", Named)
    env = make_env("CartPole-v1")
    assert env.get_wrapper_attr("action_texts") == ("push left", "push right")
    assert isinstance(env, VerbalizedEnv)
    assert isinstance(env.verbalizer, Named)
    env.reset()
    env.reset()
    assert env.verbalizer.resets == 2
    assert chosen("Pendulum-v1") is PendulumVerbalizer
    assert type(verbalizer_for(Told(0.0, True, {}), "Told-v0")) is AutomaticVerbalizer


def test_last_registered_verbalizer_wins() -> None:
    register_verbalizer("CartPole-*", Named)
    register_verbalizer("Cart*", OtherNamed)
    assert chosen("CartPole-v1") is OtherNamed
    register_verbalizer("CartPole-*", Named)
    assert chosen("CartPole-v1") is Named


def test_users_verbalizers_go_before_heeds_own(monkeypatch: pytest.MonkeyPatch) -> None:
    babyai = "BabyAI-GoToLocal-v0"
    assert chosen(babyai) is MiniGridVerbalizer
    plugged = EntryPoint(name="BabyAI-*", value="importlib:import_module", group=verbalize.ENTRY_POINT_GROUP)
    monkeypatch.setattr(EntryPoint, "load", lambda self: Named if self is plugged else MiniGridVerbalizer)
    monkeypatch.setattr(verbalize, "entry_points", lambda group: [plugged] if "heed" in group else [])
    assert chosen(babyai) is Named
    assert chosen("MiniGrid-Empty-5x5-v0") is MiniGridVerbalizer
    register_verbalizer("BabyAI-*", OtherNamed)
    assert chosen(babyai) is OtherNamed


def test_id_with_a_module_finds_the_same_verbalizer() -> None:
    env = make_env("minigrid:BabyAI-GoToLocal-v0")
    assert isinstance(env, VerbalizedEnv)
    assert isinstance(env.verbalizer, MiniGridVerbalizer)


# -- actions that start elsewhere, and actions that cannot always be done ----------------------------------------------


class Corridor(gymnasium.Env[Any, Any]):
    """Five cells in a row; the goal is the last. Its actions are called 10 (left) and 11 (right)."""

    observation_space: spaces.Space[Any] = spaces.Discrete(5)
    action_space = spaces.Discrete(2, start=10)
    place = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        self.place = 0
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        assert action in (10, 11)
        self.place = max(0, self.place + (1 if action == 11 else -1))
        return self.place, float(self.place == 4), self.place == 4, False, {}

    def expert_action(self) -> int:
        return 11


class InCorridor(Verbalizer):
    """Speaks for the corridor; from its first cell nobody goes left."""

    def instruction(self, observation: Any) -> str:
        return "go to the end"

    def observation(self, observation: Any) -> str:
        return f"cell {observation}"

    def action_texts(self) -> tuple[str, ...]:
        return ("left", "right")


class Walled(InCorridor):
    """Lists what can be done."""

    def admissible_actions(self, observation: Any) -> list[int] | None:
        return {0: [1], 1: None, 2: [1, 0], 3: [0, 1], 4: []}[observation]


def test_actions_that_start_elsewhere_start_at_zero_in_words() -> None:
    env = VerbalizedEnv(InCorridor(Corridor()))
    require_language_env(env)
    assert env.action_space == spaces.Discrete(2)
    env.reset()
    assert [env.step(action)[0]["observation"] for action in (1, 1, 0)] == ["cell 1", "cell 2", "cell 1"]
    expert = expert_of(env)
    assert expert is not None
    assert expert() == 1
    assert AutomaticVerbalizer(Corridor()).action_texts() == ("action 10", "action 11")


def test_admissible_actions_are_listed_and_done() -> None:
    env = VerbalizedEnv(Walled(Corridor()))
    require_language_env(env)
    assert env.action_space == ChangingActions(2)
    assert env.get_wrapper_attr("action_texts") is None
    words, _ = env.reset()
    expert = expert_of(env)
    assert expert is not None
    seen = [(words["observation"], words["actions"], expert())]  # type: ignore[typeddict-item]
    for action in (0, 1, 0, 1):
        words, _, terminated, _, info = env.step(action)
        assert env.observation_space.contains(words)
        seen.append((words["observation"], words["actions"], expert()))  # type: ignore[typeddict-item]
    assert seen == [
        ("cell 0", ("right",), 0),
        ("cell 1", ("left", "right"), 1),
        ("cell 2", ("right", "left"), 0),
        ("cell 3", ("left", "right"), 1),
        ("cell 4", ("left", "right"), 1),  # the end: nothing can be done, and nobody will
    ]
    assert (terminated, info["is_success"]) == (True, True)


@pytest.mark.parametrize("action", [1, -1])
def test_what_is_not_listed_cannot_be_done(action: int) -> None:
    env = VerbalizedEnv(Walled(Corridor()))
    env.reset()
    with pytest.raises(ValueError, match=f"no action {action}: the last observation lists 1"):
        env.step(action)


def test_an_expert_that_would_do_what_cannot_be_done_does_not_know() -> None:
    class Confused(Corridor):
        def expert_action(self) -> int:
            return 10

    env = VerbalizedEnv(Walled(Confused()))
    env.reset()
    expert = expert_of(env)
    assert expert is not None
    with pytest.raises(ExpertError, match="would 'left', which"):
        expert()


@pytest.mark.parametrize("listed", [[], [0, 0], [2], [-1]])
def test_lists_that_are_none_are_refused(listed: list[int]) -> None:
    class Wrong(InCorridor):
        def admissible_actions(self, observation: Any) -> list[int]:
            return listed

    with pytest.raises(ContractError, match="at least one of the actions 0 to 1, each once"):
        VerbalizedEnv(Wrong(Corridor())).reset()


def test_what_a_verbalizer_may_not_say() -> None:
    class Unnamed(Walled):
        def action_texts(self) -> Any:
            return None

    class Taken(InCorridor):
        def spaces(self) -> dict[str, spaces.Space[Any]]:
            return {"observation": spaces.Discrete(2)}

    with pytest.raises(ContractError, match="so it must name them"):
        VerbalizedEnv(Unnamed(Corridor()))
    with pytest.raises(ContractError, match="'observation', which the words have"):
        VerbalizedEnv(Taken(Corridor()))


def test_a_mask_in_info_lists_the_actions() -> None:
    env = VerbalizedEnv(MaskedActions(TaxiVerbalizer(gymnasium.make(TAXI))))
    plain: Any = env.unwrapped
    words, info = env.reset(seed=3)
    for step in range(60):
        texts = words["actions"]  # type: ignore[typeddict-item]
        assert texts == tuple(np.array(TaxiVerbalizer.action_texts(env.verbalizer))[info["action_mask"] == 1])  # type: ignore[arg-type]
        state = plain.s
        words, *_, info = env.step(step % len(texts))
        assert plain.s != state  # each of them does something, as the mask promises
    assert words["instruction"].startswith("take the passenger")


def test_an_environment_may_have_a_method_for_its_mask() -> None:
    class Masked(Corridor):
        def action_masks(self) -> Any:
            return np.array([self.place > 0, True])

    env = VerbalizedEnv(MaskedActions(InCorridor(Masked())))
    assert env.reset()[0]["actions"] == ("right",)  # type: ignore[typeddict-item]
    assert env.step(0)[0]["actions"] == ("left", "right")  # type: ignore[typeddict-item]
    with pytest.raises(ContractError, match="no action mask"):
        VerbalizedEnv(MaskedActions(InCorridor(Corridor()))).reset()


def test_auxiliary_observations_of_a_masked_verbalizer_stay() -> None:
    class Real(Corridor):
        observation_space = spaces.Box(0, 4, (1,))

        def reset(self, **_: Any) -> Any:
            return np.zeros(1, dtype=np.float32), {"action_mask": np.ones(2)}

    env = VerbalizedEnv(MaskedActions(AutomaticVerbalizer(Real())))
    words, _ = env.reset()
    assert env.observation_space.contains(words)
    assert set(words) == {"instruction", "observation", "numbers", "actions"}


@pytest.mark.parametrize(
    "space",
    [
        spaces.Dict(a=spaces.Box(-1, 1, (2, 2)), b=spaces.Tuple([spaces.Discrete(3), spaces.Text(5)])),
        spaces.Sequence(spaces.Box(-1, 1, (1,))),
        spaces.Graph(spaces.Discrete(3), spaces.Box(-1, 1, (1,))),
        spaces.OneOf([spaces.Discrete(3), spaces.MultiBinary(3)]),
        spaces.Box(0, 255, (20, 20, 3), dtype=np.uint8),
        spaces.MultiDiscrete([3, 3]),
    ],
    ids=str,
)
@pytest.mark.parametrize("changes", [False, True])
def test_an_environment_with_any_space_keeps_the_contract(space: spaces.Space[Any], changes: bool) -> None:
    class Sampling(Told):
        observation_space = space

        def reset(self, **_: Any) -> tuple[Any, dict[str, Any]]:
            self.observation_space.seed(0)
            return self.observation_space.sample(), {}

        def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            return self.observation_space.sample(), 0.0, False, False, {}

    env = VerbalizedEnv(AutomaticVerbalizer(Sampling(0.0, False, {}), changes=changes))
    require_language_env(env)
    words, _ = env.reset()
    for _ in range(20):
        assert env.observation_space.contains(words)
        assert words["observation"].strip()
        words = env.step(0)[0]


def test_the_code_of_the_page_on_verbalizers_does_what_the_page_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "verbalizers.md").read_text("utf-8")
    monkeypatch.setattr(gymnasium.envs.registration, "registry", dict(gymnasium.registry))
    monkeypatch.setattr(gymnasium, "registry", gymnasium.envs.registration.registry)
    for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(code, "page", "exec", dont_inherit=True), {"__name__": "page"})
        for printed in capsys.readouterr().out.strip().splitlines():
            assert f"# {printed}" in code
    words, _ = make_env("CartPole-v1").reset(seed=0)
    assert words["instruction"] == "keep the pole up"
    assert words["observation"].startswith("cart position 0.014; ")

    env = make_env("Greenhouse-v0")
    assert env.action_space == ChangingActions(4)
    generator = np.random.default_rng(0)
    lists = set()
    for seed in range(5):
        words, _ = env.reset(seed=seed)
        ended = False
        while not ended:
            assert env.observation_space.contains(words)
            assert ("heat" in words["actions"]) == (", hot;" not in words["observation"])
            lists.add(words["actions"])
            action = sample_action(env.action_space, words, generator)
            words, _, terminated, truncated, info = env.step(action)
            ended = terminated or truncated
        assert info["is_success"] is terminated
    assert len(lists) == 2
