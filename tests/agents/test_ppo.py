"""PPO's update is SB3's, and gathering a gradient in parts, or counting tokens, changes nothing but rounding."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO as SB3PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.logger import configure
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from torch import Tensor

from heed.agents import PPO
from heed.agents.rollouts.lost_steps import RolloutWithoutLostSteps
from heed.envs.make import make
from heed.policies.caches.batching import Inputs
from heed.policies.networks.text_network import LanguageNetwork
from heed.policies.prompts.layout import PADDING
from tests.buttons import make_buttons

LEVEL = "BabyAI-GoToRedBallNoDists-v0"


def trained(steps: int = 128, **arguments: Any) -> PPO:
    """Return an agent after a rollout of 128 steps (and more) on a level whose prompts differ in length."""
    options: dict[str, Any] = {"n_steps": 16, "batch_size": 32, "n_epochs": 2, "seed": 0, **arguments}
    agent = PPO(env=make(LEVEL, n_envs=8, seed=0), **options)
    agent.set_logger(configure(format_strings=[]))
    agent.learn(steps)
    return agent


def weights(agent: Any) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in agent.policy.state_dict().items()}


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor], tolerance: float) -> None:
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("target_kl", [None, 1e-4])
def test_the_update_is_that_of_sb3(target_kl: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = trained(steps=256, target_kl=target_kl)
    ours_logged = dict(ours.logger.name_to_value)
    monkeypatch.setattr(PPO, "train", SB3PPO.train)
    theirs = trained(steps=256, target_kl=target_kl)
    assert_same(weights(ours), weights(theirs), 1e-6)
    assert ours._n_updates == theirs._n_updates
    for name, value in ours_logged.items():
        if name.startswith("train/") and name != "train/loss":  # SB3 logs the last minibatch's loss, we the mean
            assert value == pytest.approx(theirs.logger.name_to_value[name], abs=1e-5), name


@pytest.mark.parametrize("budget", [64, 400, 100_000])
def test_gathering_the_gradient_in_parts_changes_nothing_but_rounding(budget: int) -> None:
    # Adam divides by the size of a gradient, so rounding in one that is almost 0 would show; SGD does not.
    plain: dict[str, Any] = {"policy_kwargs": {"optimizer_class": torch.optim.SGD}, "learning_rate": 0.1}
    whole, parts = trained(**plain), trained(**plain, micro_batch_tokens=budget)
    start = trained(learning_rate=1e-9, policy_kwargs=plain["policy_kwargs"])
    moved = max(float((tensor - weights(start)[name]).abs().max()) for name, tensor in weights(whole).items())
    assert moved > 1e-3
    assert_same(weights(whole), weights(parts), 1e-6)
    logged, in_parts = whole.logger.name_to_value, parts.logger.name_to_value
    for name in ("train/loss", "train/approx_kl", "train/clip_fraction", "train/entropy_loss"):
        assert logged[name] == pytest.approx(in_parts[name], abs=1e-6)


def test_no_part_has_more_tokens_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    original = PPO._loss

    def counting(self: PPO, batch: Any) -> Any:
        read.append(Inputs.of(batch.observations).prompts.numel())
        return original(self, batch)

    monkeypatch.setattr(PPO, "_loss", counting)
    trained(micro_batch_tokens=200)
    assert len(read) > 8
    assert max(read) <= 200


def test_minibatches_may_be_counted_in_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[tuple[int, int, int]] = []
    original = PPO._accumulate_gradient

    def counting(self: PPO, minibatch: Any) -> Any:
        lengths = (minibatch.observations != PADDING).sum(dim=1)
        sizes.append((len(lengths), int(lengths.sum()), int(lengths.max())))
        return original(self, minibatch)

    monkeypatch.setattr(PPO, "_accumulate_gradient", counting)
    trained(batch_tokens=500, n_epochs=1)
    assert sum(count for count, _, _ in sizes) == 128
    assert len({count for count, _, _ in sizes}) > 1
    of_all, longest = sum(tokens for _, tokens, _ in sizes), max(longest for *_, longest in sizes)
    assert len(sizes) == -(-of_all // 500)
    assert max(tokens for _, tokens, _ in sizes) <= 500 + longest
    assert min(tokens for _, tokens, _ in sizes) >= of_all / len(sizes) - longest, "no small rest"


@pytest.mark.parametrize("lengths", [[5] * 20, [1] * 99 + [2], [30, 1, 1, 1], [7], [3, 50, 3, 50, 3, 50], [9, 1, 1]])
@pytest.mark.parametrize("most", [1, 4, 10, 33, 100, 1000])
def test_minibatches_by_tokens_leave_no_rest(lengths: list[int], most: int) -> None:
    agent = PPO.__new__(PPO)
    agent.batch_tokens = most
    prompts = torch.full((len(lengths), 60), PADDING)
    for row, length in enumerate(lengths):
        prompts[row, :length] = row
    agent.observation_space = spaces.Box(-1, 99, (60,))
    rollout = RolloutBufferSamples(prompts, *[torch.arange(len(lengths))] * 5)
    agent.rollout_buffer = SimpleNamespace(get=lambda: [rollout])  # type: ignore[assignment]
    minibatches = list(agent._minibatches())
    assert torch.cat([minibatch.actions for minibatch in minibatches]).tolist() == list(range(len(lengths)))
    tokens = [int((minibatch.observations != PADDING).sum()) for minibatch in minibatches]
    assert len(tokens) == min(-(-sum(lengths) // most), len(lengths))
    assert max(tokens) - min(tokens) <= 2 * max(lengths)
    if len(set(lengths)) == 1:
        assert max(tokens) - min(tokens) <= lengths[0]


@pytest.mark.parametrize(
    ("batch_size", "sizes"), [(32, [32]), (16, [16] * 2), (31, [16] * 2), (9, [8] * 4), (99, [32])]
)
def test_minibatches_by_prompts_leave_no_rest(batch_size: int, sizes: list[int]) -> None:
    """Where the rollout is a multiple of them they are those of SB3, sample by sample."""

    def drawn(kind: Any) -> list[list[float]]:
        buffer = kind(8, spaces.Box(0, 99, (1,)), spaces.Discrete(2), n_envs=4)
        for step in range(8):
            number = np.arange(4.0) + 4 * step
            buffer.add(number[:, None], np.zeros((4, 1)), number, np.zeros(4), torch.zeros(4), torch.zeros(4))
        np.random.seed(0)  # noqa: NPY002 - from where SB3 draws
        return [minibatch.observations.flatten().tolist() for minibatch in buffer.get(batch_size)]

    ours, theirs = drawn(RolloutWithoutLostSteps), drawn(RolloutBuffer)
    assert [len(minibatch) for minibatch in ours] == sizes
    assert sorted(sample for minibatch in ours for sample in minibatch) == list(range(32))
    assert (ours == theirs) == (32 % batch_size == 0 or batch_size > 32)


@pytest.mark.parametrize("name", ["batch_tokens", "micro_batch_tokens"])
def test_budgets_of_nothing_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 0"):
        PPO(env=make_buttons(2), **{name: 0})  # type: ignore[arg-type]


# -- the same curve ----------------------------------------------------------------------------------------------


def without_memory(agent: PPO) -> None:
    agent.policy.network.memory = agent.policy.network.prefixes = None  # type: ignore[union-attr]


def by(*ways: str) -> Any:
    def change(agent: PPO) -> None:
        agent.policy.network.scorer.ways = ways  # type: ignore[union-attr]

    return change


def without_batching(agent: PPO) -> None:
    agent.policy.network.forward = _one_by_one(agent)  # type: ignore[union-attr]


def _one_by_one(agent: PPO) -> Any:
    original = agent.policy.network.forward  # type: ignore[union-attr]

    def forward(prompts: Tensor) -> Any:
        read = [original(prompts[row : row + 1]) for row in range(len(prompts))]
        return torch.cat([features for features, _ in read]), torch.cat([scores for _, scores in read])

    return forward


@pytest.mark.parametrize(
    ("model", "change", "history"),
    [
        ("heed-words", without_memory, 0),
        ("heed-tiny", without_memory, 0),
        ("heed-tiny", without_memory, 3),
        ("heed-tiny", by("cached"), 0),
        ("heed-tiny", by("naive"), 0),
        ("heed-words", without_batching, 0),
        ("heed-tiny", without_batching, 0),
    ],
)
def test_no_short_cut_changes_what_is_learned(model: str, change: Any, history: int) -> None:
    """The same seed gives the same actions, and the same weights up to rounding, with a short cut and without it."""

    def learn(changed: bool) -> tuple[Any, dict[str, Tensor]]:
        agent = PPO(
            env=make(LEVEL, n_envs=4, seed=0, history=history),
            n_steps=16,
            batch_size=32,
            n_epochs=1,
            seed=0,
            policy_kwargs={"model": model, "optimizer_class": torch.optim.SGD, "max_prompt_tokens": 512},
            learning_rate=0.1,
        )
        if changed:
            change(agent)
        agent.learn(128)
        return agent.rollout_buffer.actions.copy(), weights(agent)

    actions, plain = learn(changed=False)
    other_actions, other = learn(changed=True)
    assert np.array_equal(actions, other_actions)
    assert_same(plain, other, 1e-5)


def test_values_at_time_limits_are_read_with_the_prompts_that_come_next(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    original = LanguageNetwork._read

    def counting(self: LanguageNetwork, batch: Inputs) -> Tensor:
        if not torch.is_grad_enabled():
            read.append(len(batch.keys))
        return original(self, batch)

    monkeypatch.setattr(LanguageNetwork, "_read", counting)
    env, policy = make("BabyAI-GoToLocal-v0", n_envs=8, seed=0), {"model": "heed-tiny"}
    agent = PPO(env=env, n_steps=128, batch_size=256, n_epochs=1, seed=0, policy_kwargs=policy)
    agent.learn(1024)
    limits = sum(float(info["l"]) >= 64 for info in agent.ep_info_buffer or ())
    assert limits > 8
    assert len(read) <= 128 + 1, "a forward for each step and one for the end of the rollout, none for a time limit"
