"""Cloning against hand-worked losses, DAgger's labels against the expert, and what may follow a clone."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from heed.agents import DQN, PPO, REINFORCE, load
from heed.agents.imitation import cloning as imitation_module
from heed.agents.imitation.cloning import Cloning, Epoch, Examples, clone, split_by_seed
from heed.agents.imitation.dagger import dagger
from heed.agents.rollouts.micro_batches import MicroBatches
from heed.envs import make, make_env
from heed.envs.demonstrations.demonstrate import demonstrate
from heed.envs.demonstrations.demonstrations import Demonstration, DemonstrationError, demonstration_seeds
from heed.evaluation.playing import greedy, held_out_seeds, run_episodes, success_rate, uniform
from tests.buttons import COLORS, Buttons, make_buttons

LEVEL = "BabyAI-GoToRedBallNoDists-v0"
make_level = functools.partial(make_env, LEVEL)


def press(color: int, seed: int, **fields: Any) -> Demonstration:
    """An episode of Buttons in which the button is pressed that was named."""
    episode = Demonstration(
        seed=seed,
        instruction=f"press the {COLORS[color]} button",
        observations=("three buttons", "three buttons"),
        actions=(color,),
        rewards=(1.0,),
        terminated=True,
        success=True,
    )
    return dataclasses.replace(episode, **fields)


PRESSES = [press(index % 3, index) for index in range(30)]


def agent_for_buttons(**options: Any) -> Any:
    return PPO(env=make_buttons(4), seed=0, n_steps=8, batch_size=32, **options)


def weights(agent: Any) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in agent.policy.state_dict().items()}


def probabilities(agent: Any, prompts: Tensor) -> Any:
    """Those of a network that remembers nothing."""
    agent.policy.network.clear_cache()
    agent.policy.set_training_mode(False)
    with torch.no_grad():
        return agent._probabilities(prompts).clone()


@pytest.fixture(scope="module")
def bot_episodes() -> list[Demonstration]:
    outcomes = sorted(demonstrate(make_level, demonstration_seeds(0, 150)), key=lambda outcome: outcome.number)
    return [outcome.demonstration for outcome in outcomes]


def gathered(agent: Any, examples: Examples, settings: Cloning, micro_batch_tokens: int | None) -> tuple[float, float]:
    """Put the gradient of the loss on all examples into the parameters; return cross-entropy and value loss."""
    batches = MicroBatches(micro_batch_tokens)
    return imitation_module._accumulate_gradient(agent.policy, agent.policy.optimizer, examples, settings, batches)


# -- the loss ----------------------------------------------------------------------------------------------------

THREE_STEPS = press(
    0,
    1,
    observations=("one button", "two buttons", "three buttons", "no buttons"),
    actions=(0, 2, 1),
    rewards=(0.0, 0.0, 1.0),
)


@pytest.mark.parametrize("head", ["score", "linear"])
def test_the_loss_is_that_worked_out_by_hand(head: str) -> None:
    agent = agent_for_buttons(gamma=0.5, policy_kwargs={"head": head})
    timed_out = press(1, 2, labels=(2,), terminated=False)
    examples = Examples.of(agent, [THREE_STEPS, timed_out], history=0, weigh=lambda episode: [2.0] * len(episode))
    words = {
        "instruction": ["press the red button"] * 3 + ["press the green button"],
        "observation": ["one button", "two buttons", "three buttons", "three buttons"],
    }
    chance = agent.action_probabilities(words)
    by_hand = -np.mean(np.log(chance[range(4), [0, 2, 1, 2]]))  # the last is the expert's label
    values = agent.policy.predict_values(examples.prompts).detach().numpy().flatten()
    errors = (values[:3] - [0.25, 0.5, 1.0]) ** 2  # the return of an episode that met its time limit is not known
    losses = gathered(agent, examples, Cloning(), None)
    assert losses == pytest.approx((by_hand, errors.mean()), abs=1e-5)
    measured = imitation_module._measure(agent.policy, examples)
    right = np.mean(chance.argmax(axis=1) == [0, 2, 1, 2])
    assert measured == pytest.approx((by_hand, right, errors.mean()), abs=1e-5)


def test_the_gradient_is_that_worked_out_by_hand_with_weights_for_the_steps() -> None:
    agent = agent_for_buttons(policy_kwargs={"head": "linear"})
    examples = Examples.of(agent, [THREE_STEPS], history=0, weigh=lambda episode: [1.0, 3.0, 0.0])
    settings = Cloning(vf_coef=0.0)
    gathered(agent, examples, settings, None)
    chance = probabilities(agent, examples.prompts)
    # Of a softmax: the probabilities less what was done, here a quarter of the first step and three of the second.
    expected = 0.25 * (chance[0] - torch.tensor([1.0, 0, 0])) + 0.75 * (chance[1] - torch.tensor([0, 0, 1.0]))
    torch.testing.assert_close(agent.policy.action_head.net.bias.grad, expected, atol=1e-6, rtol=1e-5)

    whole = [parameter.grad.clone() for parameter in agent.policy.parameters() if parameter.grad is not None]
    agent.policy.zero_grad()
    gathered(agent, examples, settings, 40)
    in_parts = [parameter.grad for parameter in agent.policy.parameters() if parameter.grad is not None]
    for one, other in zip(whole, in_parts, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_an_entropy_bonus_makes_the_clone_less_sure() -> None:
    sure, unsure = agent_for_buttons(), agent_for_buttons()
    for agent, ent_coef in ((sure, 0.0), (unsure, 1.0)):
        clone(agent, PRESSES, Cloning(epochs=8, batch_size=9, learning_rate=3e-3, ent_coef=ent_coef, validation=0.0))
    words = {"instruction": ["press the blue button"], "observation": ["three buttons"]}
    assert sure.action_probabilities(words)[0, 2] > unsure.action_probabilities(words)[0, 2] + 0.1


# -- the training ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", ["score", pytest.param("linear", marks=pytest.mark.exhaustive)])
def test_a_few_demonstrations_of_the_bot_beat_chance_by_far(
    head: str, bot_episodes: list[Demonstration], tmp_path: Path
) -> None:
    agent = PPO(env=make(LEVEL, n_envs=8, seed=0), seed=0, policy_kwargs={"head": head})
    cloned = clone(agent, bot_episodes, Cloning(epochs=9, batch_size=64))
    assert cloned.best.validation_accuracy is not None
    assert cloned.best.validation_accuracy > 0.8
    agent.save(tmp_path / "clone")
    loaded = load(tmp_path / "clone")
    seeds = held_out_seeds(0, 60)
    chance = success_rate(run_episodes(make_level, uniform(agent.action_space), seeds))
    assert chance < 0.5
    assert success_rate(run_episodes(make_level, greedy(loaded), seeds)) >= 0.8


def test_the_value_function_learns_the_returns() -> None:
    with_it, without = agent_for_buttons(), agent_for_buttons()
    for agent, vf_coef in ((with_it, 0.5), (without, 0.0)):
        clone(agent, PRESSES, Cloning(epochs=3, batch_size=9, vf_coef=vf_coef))
    prompts = Examples.of(with_it, PRESSES, history=0, weigh=None).prompts
    good, bad = (agent.policy.predict_values(prompts).detach().flatten() for agent in (with_it, without))
    assert float(((good - 1) ** 2).mean()) < 0.05 < float(((bad - 1) ** 2).mean())


def test_the_same_seed_gives_the_same_clone_to_the_last_bit() -> None:
    agents = [agent_for_buttons() for _ in range(3)]
    for agent, seed in zip(agents, (5, 5, 6), strict=True):
        clone(agent, PRESSES, Cloning(epochs=2, batch_size=8, seed=seed))
    first, second, other = map(weights, agents)
    assert all(first[name].equal(second[name]) for name in first)
    assert not all(first[name].equal(other[name]) for name in first)


def test_it_stops_when_the_held_out_loss_no_longer_falls_and_the_best_weights_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    losses = iter([3.0, 1.0, 2.0, 1.5, 1.0, 0.5])
    monkeypatch.setattr(imitation_module, "_measure", lambda policy, examples, ranks: (next(losses), 0.5, 0.0))
    agent = agent_for_buttons()
    seen: list[dict[str, Tensor]] = []
    settings = Cloning(epochs=9, batch_size=9, patience=3)
    cloned = clone(agent, PRESSES, settings, on_epoch=lambda epoch: seen.append(weights(agent)))
    assert [epoch.validation_loss for epoch in cloned.epochs] == [3.0, 1.0, 2.0, 1.5, 1.0]
    assert cloned.best.epoch == 2
    final = weights(agent)
    assert all(final[name].equal(seen[1][name]) for name in final)
    assert not all(final[name].equal(seen[4][name]) for name in final)


def test_without_held_out_episodes_all_epochs_train_and_the_last_weights_stay() -> None:
    agent = agent_for_buttons()
    seen: list[dict[str, Tensor]] = []
    settings = Cloning(epochs=3, batch_size=9, validation=0.0, patience=1)
    cloned = clone(agent, PRESSES, settings, on_epoch=lambda epoch: seen.append(weights(agent)))
    assert len(cloned.epochs) == cloned.best.epoch == 3
    assert cloned.best.validation_accuracy is None
    assert all(tensor.equal(seen[2][name]) for name, tensor in weights(agent).items())


def test_episodes_are_held_out_whole_and_those_of_one_seed_together() -> None:
    episodes = [press(index % 3, seed=index // 2) for index in range(40)]  # two of each seed
    for seed in range(5):
        training, held_out = split_by_seed(episodes, 0.2, seed=seed)
        assert (len(training), len(held_out)) == (32, 8)
        assert not {episode.seed for episode in training} & {episode.seed for episode in held_out}
        assert (training, held_out) == split_by_seed(episodes, 0.2, seed=seed)
    assert split_by_seed(episodes, 0.2, seed=0) != split_by_seed(episodes, 0.2, seed=1)
    assert [len(part) for part in split_by_seed(episodes, 0.001, seed=0)] == [38, 2]
    assert [len(part) for part in split_by_seed(episodes, 0.999, seed=0)] == [2, 38]
    with pytest.raises(DemonstrationError, match="of 1 different seeds"):
        split_by_seed(episodes[:2], 0.5, seed=0)


def test_a_clone_reads_a_history_as_the_agent_will() -> None:
    agent = PPO(env=make(LEVEL, n_envs=8, history=2), seed=0, policy_kwargs={"max_prompt_tokens": 448})
    (outcome,) = demonstrate(make_level, [1])
    examples = Examples.of(agent, [outcome.demonstration], history=2, weigh=None)
    env = make_env(LEVEL, history=2)
    observation, _ = env.reset(seed=1)
    for prompt, action in zip(examples.prompts, outcome.demonstration.actions, strict=True):
        words = {key: [observation[key]] for key in ("instruction", "observation")}
        assert np.array_equal(prompt.numpy(), agent.language_policy.encoder(words)[0])
        observation, *_ = env.step(action)


def test_what_cannot_be_cloned_is_told() -> None:
    with pytest.raises(ValueError, match="epochs is 0, but must be at least 1"):
        Cloning(epochs=0)
    with pytest.raises(ValueError, match="learning_rate is 0, but must be positive"):
        Cloning(learning_rate=0)
    with pytest.raises(ValueError, match="validation is 1, but must be"):
        Cloning(validation=1)
    with pytest.raises(DemonstrationError, match="no step to learn from"):
        clone(agent_for_buttons(), [], Cloning(validation=0.0))
    with pytest.raises(DemonstrationError, match="action is 3, but the agent has only 3"):
        clone(agent_for_buttons(), [press(0, 1, actions=(3,)), PRESSES[0]])
    with pytest.raises(DemonstrationError, match="2 weights for 1 steps"):
        clone(agent_for_buttons(), PRESSES, weigh=lambda episode: [1.0, 1.0])
    with pytest.raises(TypeError, match="DQN has no distribution over actions"):
        clone(DQN(env=make_buttons(1)), PRESSES)  # type: ignore[arg-type]
    pendulum = PPO(env=make("Pendulum-v1", n_envs=8), policy_kwargs={"head": "linear"})
    with pytest.raises(TypeError, match="Discrete actions, but the agent acts in Box"):
        clone(pendulum, PRESSES)


# -- what follows a clone ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", ["score", "linear"])
@pytest.mark.parametrize("kind", [PPO, REINFORCE])
def test_in_the_warm_up_only_the_value_function_learns(kind: Any, head: str) -> None:
    sizes = {"batch_size": 32} if kind is PPO else {}
    agent = kind(
        env=make(LEVEL, n_envs=8, seed=0),
        n_steps=16,
        seed=0,
        value_warmup_steps=300,
        learning_rate=3e-3,
        policy_kwargs={"head": head},
        **sizes,
    )
    agent.learn(128)
    prompts = torch.as_tensor(agent.rollout_buffer.observations.reshape(128, -1))
    returns = torch.as_tensor(agent.rollout_buffer.returns.reshape(128))
    before, weights_before = probabilities(agent, prompts), weights(agent)

    def value_loss() -> float:
        with torch.no_grad():
            return float(((agent.policy.predict_values(prompts).flatten() - returns) ** 2).mean())

    loss_before = value_loss()
    for _ in range(5):
        agent.train()  # on the same rollout again
    assert value_loss() < loss_before
    agent.learn(256, reset_num_timesteps=False)  # the rollout from 256 to 384 begins within the warm-up
    assert agent.num_timesteps == 384
    assert torch.equal(before, probabilities(agent, prompts))
    changed = {name for name, tensor in weights(agent).items() if not tensor.equal(weights_before[name])}
    assert changed
    assert all(name.startswith(("value_net.", "mlp_extractor.value_net.")) for name in changed)

    agent.learn(128, reset_num_timesteps=False)
    assert not torch.equal(before, probabilities(agent, prompts))


def test_the_reference_is_the_clone() -> None:
    agent = agent_for_buttons(reference_coef=0.1)
    untrained = weights(agent)
    clone(agent, PRESSES, Cloning(epochs=2, batch_size=9))
    for name, tensor in agent.reference.state_dict().items():
        assert tensor.equal(weights(agent)[name])
    assert not all(tensor.equal(untrained[name]) for name, tensor in agent.reference.state_dict().items())


# -- DAgger ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [pytest.param(0.0, marks=pytest.mark.exhaustive), 0.5])
def test_the_expert_labels_what_the_learner_visits_and_the_episodes_add_up(
    beta: float, bot_episodes: list[Demonstration]
) -> None:
    agent = PPO(env=make(LEVEL, n_envs=8), seed=0)
    settings = Cloning(epochs=1, batch_size=64)
    epochs: list[Epoch] = []
    aggregated = dagger(
        agent, make_level, bot_episodes[:40], settings, rounds=2, episodes=10, beta=beta, on_epoch=epochs.append
    )
    totals = [each.cloned.episodes + each.cloned.validation_episodes for each in aggregated.rounds]
    assert totals == [40, 50, 60] == [*totals[:2], len(aggregated.demonstrations)]
    assert [each.expert_share for each in aggregated.rounds] == [1.0, beta, beta**2]
    assert aggregated.rounds[1].cloned.examples > aggregated.rounds[0].cloned.examples
    assert len(epochs) == 3
    own = [episode for episode in aggregated.demonstrations if episode.labels is not None]
    assert len(own) > 5  # a clone of one epoch still errs
    env = make_level()
    for episode in own:
        env.reset(seed=episode.seed)
        for action, label in zip(episode.actions, episode.targets, strict=True):
            assert env.get_wrapper_attr("expert_action")() == label
            env.step(action)
    errors = np.mean([a != b for episode in own for a, b in zip(episode.actions, episode.targets, strict=True)])
    assert errors > 0.05


def test_without_demonstrations_the_expert_plays_first() -> None:
    agent = PPO(env=make(LEVEL, n_envs=8), seed=0)
    aggregated = dagger(agent, make_level, settings=Cloning(epochs=1), rounds=0, episodes=6)
    (first,) = aggregated.rounds
    assert (first.played, first.expert_share, first.success_rate) == (6, 1.0, 1.0)
    assert [episode.labels for episode in aggregated.demonstrations] == [None] * 6
    with pytest.raises(ValueError, match="rounds >= 0"):
        dagger(agent, make_level, rounds=-1, episodes=6)
    with pytest.raises(ValueError, match="Buttons has no expert"):
        dagger(agent_for_buttons(), Buttons, PRESSES, Cloning(epochs=1), rounds=1, episodes=6)
