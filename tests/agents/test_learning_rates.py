"""Parts of a policy learn at rates of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from heed.agents import DQN, PPO, load
from heed.agents.imitation.cloning import Cloning, clone
from heed.envs.demonstrations.demonstrations import Demonstration
from heed.policies.adapters.parameter_groups import LearningRates
from tests.buttons import COLORS, make_buttons

OPTIONS: dict[Any, dict[str, Any]] = {
    PPO: {"n_steps": 4, "batch_size": 16, "n_epochs": 1},
    DQN: {"learning_starts": 8, "buffer_size": 100, "batch_size": 8, "target_update_interval": 1000},
}


def made(kind: Any, **policy_kwargs: Any) -> Any:
    policy_kwargs = {"model": "heed-tiny", **policy_kwargs}
    return kind(env=make_buttons(4), seed=0, policy_kwargs=policy_kwargs, learning_rate=0.01, **OPTIONS[kind])


def rate_of(agent: Any, weight: torch.nn.Parameter) -> float:
    (rate,) = [g["lr"] for g in agent.policy.optimizer.param_groups if any(p is weight for p in g["params"])]
    return float(rate)


@pytest.mark.parametrize("kind", [PPO, DQN])
def test_each_part_has_its_rate(kind: Any, tmp_path: Path) -> None:
    rates = LearningRates(heads=3.0, value=5.0, layer_decay=0.5)
    agent = made(kind, head="linear", learning_rates=rates)
    agent.learn(16)
    agent.save(tmp_path / "agent")
    loaded: Any = load(tmp_path / "agent", env=make_buttons(4))
    loaded.learn(16, reset_num_timesteps=False)
    for trained in (agent, loaded):
        policy = trained.policy if kind is PPO else trained.policy.q_net
        head, value = (
            (policy.action_head.net, policy.value_net) if kind is PPO else (policy.advantages.net, policy.state_value)
        )
        model = policy.network.model.model
        top, below = model.layers[-1].self_attn.q_proj, model.layers[-2].self_attn.q_proj
        # heed-tiny has two layers, so embeddings have a quarter.
        assert [round(rate_of(trained, part.weight), 6) for part in (head, value, model.norm, top, below)] == [
            0.03,
            0.05,
            0.01,
            0.01,
            0.005,
        ]
        assert rate_of(trained, model.embed_tokens.weight) == pytest.approx(0.0025)
        listed = [weight for group in trained.policy.optimizer.param_groups for weight in group["params"]]
        assert len(listed) == len({id(weight) for weight in listed}) == len(list(policy.parameters()))


def test_a_clone_learns_each_part_at_its_rate() -> None:
    """One step of plain gradient descent moves a weight in proportion to its rate."""
    episodes = [
        Demonstration(
            seed=seed,
            instruction=f"press the {COLORS[seed]} button",
            observations=("three buttons", "three buttons"),
            actions=(seed,),
            rewards=(1.0,),
            success=True,
            terminated=True,
        )
        for seed in range(3)
    ]
    moved: list[dict[str, torch.Tensor]] = []
    for rates in (None, LearningRates(heads=3.0, value=5.0, layer_decay=0.5)):
        agent = made(PPO, head="linear", learning_rates=rates, optimizer_class=torch.optim.SGD)
        before = {name: weight.detach().clone() for name, weight in agent.policy.named_parameters()}
        clone(agent, episodes, Cloning(epochs=1, learning_rate=0.01, validation=0.0, max_grad_norm=1e9))
        moved.append({name: weight.detach() - before[name] for name, weight in agent.policy.named_parameters()})
    (name_of_top,) = [name for name in moved[0] if name.endswith("layers.1.self_attn.q_proj.weight")]
    below = name_of_top.replace("layers.1", "layers.0")
    factors = {"action_head.net.weight": 3.0, "value_net.weight": 5.0, name_of_top: 1.0, below: 0.5}
    for name, factor in factors.items():
        assert moved[0][name].abs().max() > 1e-6
        torch.testing.assert_close(moved[1][name], factor * moved[0][name], rtol=1e-2, atol=1e-7)


def test_a_factor_of_one_changes_nothing() -> None:
    one, other = (made(PPO, **more).learn(32) for more in ({}, {"learning_rates": LearningRates()}))
    after = other.policy.state_dict()
    assert all(torch.equal(weight, after[name]) for name, weight in one.policy.state_dict().items())


@pytest.mark.parametrize("wrong", [{"heads": 0.0}, {"value": -1.0}, {"layer_decay": 1.5}, {"layer_decay": 0.0}])
def test_factors_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LearningRates(**wrong)
