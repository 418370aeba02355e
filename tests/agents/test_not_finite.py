"""Numbers that are not finite: the first ends a training, in a sentence that names it, before a weight has moved."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO as SB3PPO
from stable_baselines3.common.vec_env import VecEnvWrapper

from heed.agents import A2C, DQN, GRPO, PPO, REINFORCE, Cloning, QLearning, clone, dagger, export, load
from heed.agents.exploration import CountBonus, IntrinsicRewardVecEnv, RandomNetworkDistillation, Thompson
from heed.agents.rollouts.scaled_rewards import ScaledRewardsVecEnv
from heed.envs import LanguageVecEnv
from heed.policies import load_language_model, score_action_texts
from heed.policies.finite import NonFiniteError, require_finite_loss
from heed.policies.heads import zero_shot
from tests.agents.test_imitation import PRESSES
from tests.buttons import Buttons, make_buttons
from tests.doors import make_dials, make_doors

WORDS = {"instruction": ["press the red button"], "observation": ["three buttons"]}
NAN = float("nan")
SIZES: dict[Any, dict[str, Any]] = {
    PPO: {"n_steps": 4, "batch_size": 16, "n_epochs": 2},
    A2C: {"n_steps": 4},
    REINFORCE: {"n_steps": 4},
    GRPO: {"n_steps": 4, "group_size": 2, "batch_size": 16},
    DQN: {"learning_starts": 0, "buffer_size": 200, "batch_size": 8, "gradient_steps": 1},
}
GRADIENTS = [
    *[(kind, {}) for kind in SIZES],
    (PPO, {"reference_coef": 0.1, "micro_batch_tokens": 40}),
    (PPO, {"policy_kwargs": {"precision": "bfloat16"}}),
    (A2C, {"policy_kwargs": {"head": "linear"}}),
    (PPO, {"value_warmup_steps": 1000}),
    (PPO, {"target_kl": 1e-6}),
    (DQN, {"policy_kwargs": {"head": "linear"}, "micro_batch_tokens": 40, "margin_coef": 0.1}),
]


def make(kind: Any, env: Any = None, **arguments: Any) -> Any:
    if env is None:
        env = LanguageVecEnv([Buttons] * 4, seed=0, group_size=2 if kind is GRPO else 1)
    return kind(env=env, seed=0, **{**SIZES.get(kind, {}), **arguments})


def weights(agent: Any) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in agent.policy.parameters()]


def poison(agent: Any, part: str = "") -> str:
    """Make weights NaN; return the name of the first of them."""
    network = getattr(agent.policy, "q_net", agent.policy)
    names = [name for name, each in network.named_parameters() if part in name]
    with torch.no_grad():
        for name in names:
            network.get_parameter(name).fill_(NAN)
    return str(names[0])


# -- an update ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "arguments"), GRADIENTS)
def test_the_gradient_is_told_by_its_parameter_and_no_weight_moves(kind: Any, arguments: dict[str, Any]) -> None:
    agent = make(kind, **arguments)
    network = getattr(agent.policy, "q_net", agent.policy)
    part = "value_net" if "value_warmup_steps" in arguments else "norm"
    name, parameter = [each for each in network.named_parameters() if part in each[0]][-1]
    parameter.register_hook(lambda gradient: gradient * NAN)
    before = weights(agent)
    with pytest.raises(NonFiniteError, match=rf"^The gradient of {name} is NaN\. .*after \d+ steps and 0 updates"):
        agent.learn(64)
    assert all(map(torch.equal, before, weights(agent)))


@pytest.mark.parametrize("kind", SIZES)
def test_the_loss_is_told_before_its_gradient(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = make(kind)
    computed = agent._loss

    def loss(*arguments: Any) -> Any:
        value, more = computed(*arguments)
        value = value * float("inf")
        return value, {**more, "loss": value.detach()} if isinstance(more, dict) else more

    monkeypatch.setattr(agent, "_loss", loss)
    before = weights(agent)
    with pytest.raises(NonFiniteError, match=r"^The loss is (inf|-inf|NaN), although all weights are finite\."):
        agent.learn(64)
    assert all(map(torch.equal, before, weights(agent)))


def test_a_part_of_the_loss_is_told_before_the_sum() -> None:
    module = torch.nn.Linear(1, 1)
    measures = {"loss": NAN, "value_loss": 1.0, "reference_kl": float("inf"), "approx_kl": NAN}
    with pytest.raises(NonFiniteError, match=r"^The reference kl is inf"):
        require_finite_loss(measures, module)
    require_finite_loss({"loss": 1.0, "approx_kl": NAN, "clip_fraction": NAN}, module)  # nothing learns from these


@pytest.mark.parametrize(("kind", "rate"), [(PPO, 1e30), (A2C, 1e30), (GRPO, 1e30), (DQN, 1e30)])
def test_steps_that_are_too_large_end_a_training(kind: Any, rate: float) -> None:
    with pytest.raises(NonFiniteError, match="smaller learning rate"):
        make(kind, learning_rate=rate).learn(512)


def test_the_values_of_an_exploration_end_a_training() -> None:
    agent = make(DQN, exploration=Thompson())
    assert agent.explorer.ensemble is not None
    with torch.no_grad():
        agent.explorer.ensemble.target.out_bias.fill_(float("inf"))
    with pytest.raises(NonFiniteError, match=r"^The exploration's value loss is NaN, since the weight target"):
        agent.learn(64)


# -- a rollout ----------------------------------------------------------------------------------------------------


class Broken(VecEnvWrapper):
    """A wrapper of somebody's whose third reward is not finite."""

    def __init__(self, venv: Any, number: float = NAN):
        super().__init__(venv)
        self._number, self._steps = number, 0

    def reset(self) -> Any:
        return self.venv.reset()

    def step_wait(self) -> Any:
        observations, rewards, dones, infos = self.venv.step_wait()
        self._steps += 1
        if self._steps == 3:
            rewards[1] = self._number
        return observations, rewards, dones, infos


def scaled(env: Any) -> Any:
    return ScaledRewardsVecEnv(Broken(env), gamma=0.9)


def distilled(env: Any) -> Any:
    bonus = RandomNetworkDistillation(seed=0)
    with torch.no_grad():
        next(bonus.predictor.parameters()).fill_(float("inf"))
    return IntrinsicRewardVecEnv(env, bonus, coefficient=0.1)


@pytest.mark.parametrize("kind", [*SIZES, QLearning])
def test_a_reward_is_told_by_its_environment(kind: Any) -> None:
    for number, told in ((NAN, "NaN"), (float("-inf"), "-inf")):
        env = LanguageVecEnv([Buttons] * 4, seed=0, group_size=2 if kind is GRPO else 1)
        agent = make(kind, Broken(env, number))
        with pytest.raises(NonFiniteError, match=rf"^The reward of environment 1 is {told}\..* after 8 steps"):
            agent.learn(64)


@pytest.mark.parametrize(
    ("wrap", "told"),
    [
        (scaled, "^The scaled reward of environment"),
        (distilled, "^The prediction error .* of environment 0 is (inf|NaN)"),
        (partial(IntrinsicRewardVecEnv, bonus=CountBonus(), coefficient=float("inf")), "^The intrinsic reward of env"),
    ],
)
def test_a_reward_that_is_computed_is_told_by_what_computes_it(wrap: Callable[[Any], Any], told: str) -> None:
    with pytest.raises(NonFiniteError, match=told):
        make(A2C, wrap(make_buttons(4))).learn(64)


@pytest.mark.parametrize("kind", [PPO, A2C, REINFORCE])
def test_a_value_is_told_by_its_step(kind: Any) -> None:
    agent = make(kind)
    poison(agent, "value_net")
    with pytest.raises(NonFiniteError, match=r"^The value of environment 0 in step 1 of the rollout is NaN"):
        agent.learn(64)


def test_an_observations_numbers_are_refused() -> None:
    agent = make(PPO, make_dials(4))
    words = {"instruction": "read the dial", "observation": "a dial", "numbers": np.array([0.0, NAN, 0.0])}
    with pytest.raises(NonFiniteError, match=r"^The observation's `numbers` of environment 0 is NaN"):
        agent.predict(words)


# -- choosing an action -------------------------------------------------------------------------------------------

CHOOSERS: list[tuple[Any, Callable[[], Any], dict[str, Any]]] = [
    (PPO, lambda: make_buttons(4), {}),
    (PPO, lambda: make_buttons(4), {"policy_kwargs": {"head": "linear"}}),
    (PPO, lambda: make_doors(4), {}),
    (GRPO, lambda: LanguageVecEnv([Buttons] * 4, seed=0, group_size=2), {}),
    (DQN, lambda: make_buttons(4), {}),
    (DQN, lambda: make_buttons(4), {"policy_kwargs": {"head": "linear"}}),
    (DQN, lambda: make_doors(4), {}),
    (DQN, lambda: make_doors(4), {"policy_kwargs": {"dueling": False}}),
]


@pytest.mark.parametrize(("kind", "make_env", "arguments"), CHOOSERS)
def test_no_action_is_chosen_by_scores_that_are_nan(kind: Any, make_env: Any, arguments: dict[str, Any]) -> None:
    agent = make(kind, make_env(), **arguments)
    words = {key: value[:1] for key, value in agent.env.venv.reset().items()}
    poison(agent, "norm")
    for choose in (
        partial(agent.predict, words, deterministic=True),
        partial(agent.predict, words),
        partial(agent.action_probabilities, words),
        partial(agent.action_preferences, words),
        partial(agent.learn, 64),
    ):
        with pytest.raises(NonFiniteError, match=r"^The (score|value) of an action is NaN"):
            choose()


def test_continuous_actions_are_not_drawn_around_nan() -> None:
    class Box(Buttons):
        action_texts = None  # type: ignore[assignment]

        def __init__(self) -> None:
            super().__init__()
            self.action_space = spaces.Box(-1, 1, (2,))

        def step(self, action: Any) -> Any:
            assert np.isfinite(action).all()
            return super().step(0)

    agent = make(PPO, LanguageVecEnv([Box] * 4, seed=0), policy_kwargs={"head": "linear"})
    agent.learn(16)
    name = poison(agent, "log_std")
    with pytest.raises(NonFiniteError, match=f"^The standard deviation of an action is NaN, since the weight {name}"):
        agent.learn(16)
    with torch.no_grad():
        agent.policy.action_head.log_std.zero_()
    name = poison(agent, "action_head.net")
    with pytest.raises(NonFiniteError, match=f"since the weight {name} is NaN"):
        agent.predict(WORDS)


def test_plain_sb3_is_told_too() -> None:
    ours = make(PPO, policy_kwargs={"model": "heed-tiny"})
    agent = SB3PPO(type(ours.policy), ours.env, n_steps=4, batch_size=16, policy_kwargs={"model": "heed-tiny"})
    poison(agent, "norm")
    with pytest.raises(NonFiniteError, match=r"since the weight .*norm.* is NaN"):
        agent.learn(16)


@pytest.mark.parametrize("exploration", [None, Thompson()])
def test_a_table_is_not_played_by_nor_saved_with_nan(exploration: Any, tmp_path: Path) -> None:
    agent = make(QLearning, exploration=exploration)
    agent.learn(16)
    (agent.table.values if exploration is None else agent.table.heads)[..., 0] = NAN
    with pytest.raises(NonFiniteError, match="value of an action is NaN"):
        agent.learn(16)
    with pytest.raises(NonFiniteError, match="table holds"):
        agent.save(tmp_path / "agent")
    assert not list(tmp_path.iterdir())


# -- imitation ----------------------------------------------------------------------------------------------------


def hook(agent: Any) -> str:
    """Make the gradient of a parameter NaN; return its name."""
    name, parameter = [each for each in agent.policy.named_parameters() if "norm" in each[0]][-1]
    parameter.register_hook(lambda gradient: gradient * NAN)
    return str(name)


@pytest.mark.parametrize("train", [clone, partial(dagger, make_env=Buttons, rounds=0, episodes=8)])
def test_a_cloning_ends_with_the_first_of_them(train: Any) -> None:
    for spoil, told in ((hook, "The gradient of {} is NaN"), (partial(poison, part="norm"), "The .* is NaN, since")):
        agent = make(PPO)
        name = spoil(agent)
        before = weights(agent)
        with pytest.raises(NonFiniteError, match=rf"^{told.format(name)}.*The cloning ends here, in epoch 1 at upd"):
            train(agent, demonstrations=PRESSES, settings=Cloning(epochs=1))
        for old, new in zip(before, weights(agent), strict=True):
            torch.testing.assert_close(new, old, rtol=0, atol=0, equal_nan=True)


def test_learning_from_demonstrations_alone_says_when_it_ended() -> None:
    agent = make(DQN, margin_coef=0.1)
    agent.add_demonstrations(PRESSES)
    poison(agent, "norm")
    with pytest.raises(NonFiniteError, match=r"^The loss is NaN, since the weight .* after 0 steps and 0 updates"):
        agent.pretrain(4)


# -- checkpoints --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SIZES)
def test_what_was_saved_before_stays(kind: Any, tmp_path: Path) -> None:
    agent = make(kind)
    agent.save(tmp_path / "agent")
    before = weights(agent)
    poison(agent, "norm")
    with pytest.raises(NonFiniteError, match=r"^The weight .*norm.* is NaN"):
        agent.save(tmp_path / "agent")
    with pytest.raises(NonFiniteError, match=r"^The weight .*norm.* is NaN"):
        export(agent, tmp_path / "shared")
    assert [path.name for path in tmp_path.iterdir()] == ["agent"]
    assert all(map(torch.equal, before, weights(load(tmp_path / "agent"))))


def test_untrained_scores_are_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = torch.tensor([[-1.0, NAN]])
    monkeypatch.setattr(zero_shot, "make_scorer", lambda *arguments, **named: lambda *arguments: (None, scores))
    with pytest.raises(NonFiniteError, match=r"^The score of an action is NaN, although all weights are finite"):
        score_action_texts(load_language_model("heed-tiny"), WORDS, [["press red", "press blue"]])
