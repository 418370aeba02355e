"""DQN: double Q-learning, n-step returns and exploration, against numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from heed.agents import DQN
from heed.envs.make import make

LEVEL = "BabyAI-GoToRedBallNoDists-v0"


def make_agent(**arguments: Any) -> DQN:
    options: dict[str, Any] = {"learning_starts": 8, "buffer_size": 200, "batch_size": 8, "n_steps": 1, "seed": 0}
    return DQN(env=make(LEVEL, n_envs=2, seed=0), **{**options, **arguments})


class FixedValues(nn.Module):
    """Stands in for a Q-network: the same values whatever the prompt."""

    def __init__(self, values: list[float]):
        super().__init__()
        self.values = torch.tensor([values])

    def forward(self, prompts: Tensor) -> Tensor:
        return self.values.expand(len(prompts), -1)


@pytest.mark.parametrize(("double", "expected"), [(True, 5.0), (False, 9.0)])
def test_double_q_learning_values_the_online_networks_choice(double: bool, expected: float) -> None:
    agent = make_agent(double=double)
    # Online prefers action 2; the target network values it at 5, and action 0 at 9.
    agent.q_net = FixedValues([0.0, 1.0, 3.0, 0.0, 0.0, 0.0, 0.0])  # type: ignore[assignment]
    agent.q_net_target = FixedValues([9.0, 2.0, 5.0, 0.0, 0.0, 0.0, 0.0])  # type: ignore[assignment]
    assert agent._next_values(torch.zeros(3, 4)).tolist() == [[expected]] * 3


def test_one_update_is_the_gradient_of_the_huber_loss_to_the_hand_worked_target() -> None:
    """With plain gradient descent the first update's step gives away the loss's gradient."""
    arguments = {"optimizer_class": torch.optim.SGD, "head": "linear"}
    agent = make_agent(learning_rate=1.0, max_grad_norm=1e9, gamma=0.5, policy_kwargs=arguments)
    agent.learn(10)
    layer: Any = agent.q_net.action_values
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    agent.q_net_target = FixedValues([4.0] * 7)  # type: ignore[assignment]
    buffer = agent.replay_buffer
    assert buffer is not None
    buffer.actions[:], buffer.dones[:] = 3, 0
    buffer.rewards[:] = 0.25 - 2.0  # target = 0.25 - 2 + 0.5 * 4 = 0.25, so the error is 0.25, inside Huber's parabola
    agent.train(gradient_steps=1, batch_size=4)
    torch.testing.assert_close(layer.bias.detach(), torch.tensor([0.0, 0.0, 0.0, 0.25, 0.0, 0.0, 0.0]))


def test_n_step_returns_are_discounted_and_stop_at_the_episodes_end() -> None:
    agent = make_agent(n_steps=3, gamma=0.5)
    buffer = agent.replay_buffer
    assert buffer is not None
    prompts = np.zeros((2, 256), dtype=np.int16)
    for step, (reward, done) in enumerate([(1.0, False), (2.0, False), (4.0, False), (8.0, True), (16.0, False)]):
        infos: list[dict[str, Any]] = [{}, {}]
        buffer.add(prompts + step, prompts + step + 1, np.zeros(2), np.full(2, reward), np.full(2, done), infos)
    samples = buffer._get_samples(np.array([0, 2]))
    # From step 0: 1 + 2/2 + 4/4, then bootstrap with 0.5**3. From step 2: 4 + 8/2, and the episode is over.
    assert samples.rewards.flatten().tolist() == [3.0, 8.0]
    assert samples.dones.flatten().tolist() == [0.0, 1.0]
    assert samples.discounts is not None
    assert samples.discounts.flatten()[0] == pytest.approx(0.125)
    assert samples.next_observations[0, 0] == 3


def test_a_time_limit_is_bootstrapped_through() -> None:
    agent = make_agent(learning_starts=10_000)
    agent.learn(2 * 70)  # random actions; the time limit is 64 steps
    buffer = agent.replay_buffer
    assert buffer is not None
    assert buffer.timeouts.sum() >= 1
    samples = buffer._get_samples(np.argwhere(buffer.timeouts.any(axis=1)).flatten().repeat(20))
    assert (samples.dones == 0).any()


def test_trap_exploration_is_drawn_from_the_agents_own_generator_for_each_environment() -> None:
    agent = make_agent()
    agent.exploration_rate = 0.5
    best = np.zeros(10_000, dtype=np.int64)
    np.random.seed(1)  # noqa: NPY002 - SB3 draws from this generator; Heed must not
    state = np.random.get_state()[1].tolist()  # type: ignore[index] # noqa: NPY002
    actions = agent._explore(best, 0.5)
    assert np.random.get_state()[1].tolist() == state  # type: ignore[index] # noqa: NPY002
    # A random action is drawn half of the time, and one in seven of these is the best one.
    assert (actions != 0).mean() == pytest.approx(0.5 * 6 / 7, abs=0.02)
    words = {"instruction": "go to the red ball", "observation": "nothing"}
    greedy = {int(agent.predict(words, deterministic=True)[0]) for _ in range(20)}
    explored = {int(agent.predict(words)[0]) for _ in range(100)}
    assert len(greedy) == 1
    assert len(explored) > 3


def test_probabilities_are_epsilon_greedy() -> None:
    agent = make_agent()
    agent.exploration_rate = 0.7
    probabilities = agent.action_probabilities({"instruction": ["drop"], "observation": ["nothing"]})
    assert sorted(probabilities[0].round(4)) == pytest.approx([0.1] * 6 + [0.4])


def test_the_target_network_follows_at_its_interval() -> None:
    agent = make_agent(target_update_interval=1000)
    agent.learn(100)
    online, target = agent.q_net.state_dict(), agent.q_net_target.state_dict()
    assert any(not torch.equal(online[name], target[name]) for name in online)
    agent = make_agent(target_update_interval=2)
    agent.learn(100)
    # The last update comes after the last copy, so compare with what the next step copies.
    agent._on_step()
    online, target = agent.q_net.state_dict(), agent.q_net_target.state_dict()
    assert all(torch.equal(online[name], target[name]) for name in online)
