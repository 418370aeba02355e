"""DQN: double Q-learning, dueling, prioritized updates and exploration, against numbers worked out by hand."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.logger import Logger
from torch import Tensor, nn

from heed.agents import DQN
from heed.agents.exploration.epsilon_greedy import explore
from heed.agents.replay.buffer import PRIORITY_EPSILON, Batch, ReplayBuffer
from heed.envs.make import make

LEVEL = "BabyAI-GoToRedBallNoDists-v0"
WORDS: Any = {"instruction": ["go to the red ball"] * 2, "observation": ["red ball 1 ahead", "wall 1 ahead"]}


def make_agent(**arguments: Any) -> DQN:
    options: dict[str, Any] = {
        "learning_starts": 8,
        "buffer_size": 200,
        "batch_size": 8,
        "n_steps": 1,
        "seed": 0,
        "gradient_steps": 1,
    }
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


def fill(buffer: ReplayBuffer, prompts: int = 8) -> None:
    """Put different prompts into a buffer, with actions, rewards and ends drawn."""
    random = np.random.default_rng(3)
    shape = buffer.observations.shape[1:]
    for _ in range(prompts):
        observations = random.integers(0, 90, size=(2, *shape)).astype(buffer.observations.dtype)
        rewards, ends = [float(random.normal())], bool(random.random() < 0.3)
        buffer.add_episode(observations, [int(random.integers(7))], rewards, terminated=ends)


def without_logger(agent: DQN) -> DQN:
    agent.set_logger(Logger(None, []))
    return agent


@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_one_update_is_the_gradient_of_the_huber_loss_to_the_hand_worked_target(weight: float) -> None:
    """With plain gradient descent the first update's step gives away the loss's gradient."""
    arguments = {"optimizer_class": torch.optim.SGD, "head": "linear", "dueling": False}
    agent = without_logger(make_agent(learning_rate=1.0, max_grad_norm=1e9, gamma=0.5, policy_kwargs=arguments))
    q_net: Any = agent.q_net
    layer = q_net.advantages.net
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    agent.q_net_target = FixedValues([4.0] * 7)  # type: ignore[assignment]
    buffer = agent.replay_buffer
    for _ in range(4):
        # The target is 0.25 - 2 + 0.5 * 4 = 0.25, so the error is 0.25, inside Huber's parabola.
        buffer.add_episode(np.zeros((2, 256), dtype=np.int16), [3], [0.25 - 2.0], terminated=False)
    buffer.sample = lambda *_: buffer.at(np.arange(4), np.full(4, weight, dtype=np.float32))  # type: ignore[method-assign]
    agent.train(gradient_steps=1, batch_size=4)
    expected = torch.tensor([0.0, 0.0, 0.0, 0.25 * weight, 0.0, 0.0, 0.0])
    torch.testing.assert_close(layer.bias.detach(), expected)


def test_a_prioritized_update_is_that_of_an_independent_computation() -> None:
    """Weights, n-step targets and the priorities that come back."""
    options: dict[str, Any] = {"priority_exponent": 0.6, "importance_exponent": 0.4, "n_steps": 3, "gamma": 0.9}
    agent = without_logger(
        make_agent(learning_rate=1e-3, policy_kwargs={"optimizer_class": torch.optim.SGD}, **options)
    )
    buffer = agent.replay_buffer
    fill(buffer)
    buffer.update_priorities(np.arange(8), np.arange(8.0))
    agent._current_progress_remaining = 0.5
    drawn: list[Batch] = []
    sample = buffer.sample

    def drawing(*arguments: Any, **named: Any) -> Batch:
        drawn.append(sample(*arguments, **named))
        return drawn[-1]

    buffer.sample = drawing  # type: ignore[method-assign]
    before = [parameter.detach().clone() for parameter in agent.q_net.parameters()]
    q_net = copy.deepcopy(agent.q_net)
    agent.train(gradient_steps=1, batch_size=5)

    (batch,) = drawn
    probabilities = (np.arange(8) + PRIORITY_EPSILON) ** 0.6
    weights = (8 * probabilities[batch.indices] / probabilities.sum()) ** -0.7  # beta is half-way from 0.4 to 1
    weights /= weights.max()
    loss, errors = torch.zeros(()), []
    for row, index in enumerate(batch.indices):
        here, behind = (
            torch.from_numpy(prompts[index : index + 1]) for prompts in (buffer.observations, buffer.next_observations)
        )
        with torch.no_grad():
            value = agent.q_net_target(behind)[0, int(q_net(behind)[0].argmax())]
        error = q_net(here)[0, buffer.actions[index]] - (buffer.rewards[index] + buffer.discounts[index] * value)
        huber = 0.5 * error**2 if abs(error) < 1 else abs(error) - 0.5
        loss = loss + float(weights[row]) * huber / 5
        errors.append(float(error.detach()))
    loss.backward()
    norm = torch.cat([p.grad.flatten() for p in q_net.parameters() if p.grad is not None]).norm()
    clip = min(1.0, 10.0 / float(norm))
    for old, theirs, ours in zip(before, q_net.parameters(), agent.q_net.parameters(), strict=True):
        gradient = torch.zeros_like(old) if theirs.grad is None else theirs.grad
        torch.testing.assert_close(ours.detach(), old - 1e-3 * clip * gradient, rtol=1e-4, atol=1e-6)
    assert buffer.priorities is not None
    expected = dict(zip(batch.indices.tolist(), (np.abs(errors) + PRIORITY_EPSILON) ** 0.6, strict=True))
    np.testing.assert_allclose(buffer.priorities[np.array([*expected])], [*expected.values()], rtol=1e-3)


@pytest.mark.parametrize("head", ["score", "linear"])
def test_dueling_is_a_value_of_the_state_and_advantages_around_zero(head: str) -> None:
    agent = make_agent(policy_kwargs={"head": head})
    prompts: Any = agent.policy.obs_to_tensor(WORDS)[0]
    q_net: Any = agent.q_net
    with torch.no_grad():
        features, scores = q_net.network(prompts)
        advantages = q_net.advantages.net(features) if scores is None else 2.0 * scores
        if head == "score":
            q_net.advantages.scale.fill_(2.0)
        value = features @ q_net.state_value.weight[0] + q_net.state_value.bias
        q_values = q_net(prompts)
        torch.testing.assert_close(q_values.mean(dim=1), value)
        torch.testing.assert_close(q_values[:, 1:] - q_values[:, :1], advantages[:, 1:] - advantages[:, :1])
        # The value carries Q anywhere, whatever the log-likelihoods, which are negative.
        q_net.state_value.bias.fill_(100.0)
        assert (q_net(prompts) > 50).all()
        order = q_values.argsort(dim=1)
        assert torch.equal(q_net(prompts).argsort(dim=1), order)


def test_without_dueling_the_advantages_are_the_q_values() -> None:
    agent = make_agent(policy_kwargs={"head": "linear", "dueling": False})
    prompts: Any = agent.policy.obs_to_tensor(WORDS)[0]
    q_net: Any = agent.q_net
    with torch.no_grad():
        torch.testing.assert_close(q_net(prompts), q_net.advantages.net(q_net.network(prompts)[0]))
    agent = make_agent(policy_kwargs={"head": "score", "dueling": False})
    q_net = agent.q_net
    with torch.no_grad():
        q_net.advantages.offset.fill_(3.0)
        q_net.advantages.scale.fill_(0.5)
        torch.testing.assert_close(q_net(prompts), 3.0 + 0.5 * q_net.network(prompts)[1])


def test_a_time_limit_is_bootstrapped_through() -> None:
    agent = make_agent(learning_starts=10_000)
    agent.learn(2 * 70)  # random actions; the time limit is 64 steps
    buffer = agent.replay_buffer
    assert agent._episode_num >= 1
    assert (buffer.discounts[: buffer.size] > 0).all(), "nothing succeeded, so nothing ended by its own rules"


def test_trap_exploration_is_drawn_from_the_agents_own_generator_for_each_environment() -> None:
    agent = make_agent()
    agent.exploration_rate = 0.5
    best = np.zeros(10_000, dtype=np.int64)
    np.random.seed(1)  # noqa: NPY002 - SB3 draws from this generator; Heed must not
    state = np.random.get_state()[1].tolist()  # type: ignore[index] # noqa: NPY002
    actions = explore(best, 7, 0.5, agent.explorer.generator)
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


def test_the_target_network_follows_slowly_with_a_small_tau() -> None:
    # An interval of two steps, which is one of two environments.
    agent = without_logger(make_agent(tau=0.25, target_update_interval=2))
    online, target = agent.q_net.state_dict(), agent.q_net_target.state_dict()
    for tensor in online.values():
        tensor += 1.0
    before = {name: tensor.clone() for name, tensor in target.items()}
    agent._on_step()
    for name, _ in agent.q_net.named_parameters():
        torch.testing.assert_close(target[name], 0.75 * before[name] + 0.25 * online[name])
