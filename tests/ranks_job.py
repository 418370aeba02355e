"""What each of the processes runs that `tests/agents/test_ranks.py` starts, with a folder as argument.

All checks are made in one job. The first process writes what came of them into
`results.json`; what is expected stands in the tests. At the end the last process kills itself in the middle of a
training.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from torch import Tensor

from heed.agents import DQN, GRPO, PPO, CheckpointError, Cloning, clone, load
from heed.agents.distributed.ranks import ALONE, Ranks, RanksError, join
from heed.agents.policy_gradient import PolicyGradient
from heed.agents.replay.buffer import Batch
from heed.agents.rollouts.lost_steps import EPISODE_LOST
from heed.agents.rollouts.scaled_rewards import ScaledRewardsVecEnv
from heed.envs.demonstrations.demonstrations import Demonstration
from heed.envs.make import make
from heed.scripts import train as train_module
from heed.training.progress import StopWhenSolved
from tests.trials import keep_trials

LEVEL = "BabyAI-GoToRedBallNoDists-v0"
N_ENVS = 8
OPTIONS = ["--env", LEVEL, "--eval-episodes", "0", "--sample-every", "0", "--device", "cpu"]
SMALL = {
    "ppo": [
        *OPTIONS,
        "--n-envs",
        "8",
        "--rollout-steps",
        "16",
        "--steps",
        "512",
        "--save-every",
        "256",
        "--scale-rewards",
        "--epochs",
        "2",
    ],
    "dqn": [*OPTIONS, "--n-envs", "32", "--agent", "dqn", "--steps", "1216", "--save-every", "800"],
}
STOPS = {"ppo": 200, "dqn": 1088}
"""Steps at which a training is stopped by a signal."""


def share_of_envs(ranks: Ranks, **arguments: Any) -> Any:
    n_envs = N_ENVS // ranks.count
    return make(LEVEL, n_envs=n_envs, first_index=ranks.rank * n_envs, seed=0, **arguments)


def gradient_of(agent: Any) -> Tensor:
    gradients = [p.grad if p.grad is not None else torch.full_like(p, torch.nan) for p in agent.policy.parameters()]
    return torch.cat([gradient.flatten() for gradient in gradients])


def distance(ours: Tensor, theirs: Tensor) -> dict[str, float]:
    """Return how far gradients lie apart; parameters without one are to be the same in both."""
    none = bool((ours.isnan() == theirs.isnan()).all())
    apart = float((ours - theirs).nan_to_num().abs().max())
    return {"apart": apart if none else 1.0, "largest": float(theirs.nan_to_num().abs().max())}


def united(parts: list[Any]) -> Any:
    """Return the samples of all ranks as those of one."""
    return type(parts[0])(*(torch.cat([torch.as_tensor(part) for part in field]) for field in zip(*parts, strict=True)))


def gradient_together(agent: PolicyGradient, minibatch: RolloutBufferSamples, *, value_only: bool = False) -> Any:
    gather: Callable[..., Any] = agent._accumulate_value_gradient if value_only else agent._accumulate_gradient
    agent.policy.set_training_mode(not value_only)
    measures = agent.ranks.sum_gradients(agent.policy.parameters(), gather(minibatch))
    return gradient_of(agent), measures


def compared(agent: Any, minibatch: Any, *, value_only: bool = False) -> dict[str, float]:
    """Hold the ranks' gradient on their minibatches against that of one process on all samples."""
    ranks = agent.ranks
    ours, our_measures = gradient_together(agent, minibatch, value_only=value_only)
    samples = united(ranks.gather(minibatch))
    agent.ranks = ALONE
    theirs, their_measures = gradient_together(agent, samples, value_only=value_only)
    # The mistake that is easily made: each rank takes its own samples for all there are.
    alone, _ = gradient_together(agent, minibatch, value_only=value_only)
    agent.ranks = ranks
    count = ranks.count
    mean_of_means = sum(ranks.gather(alone)) / count
    return {
        **distance(ours, theirs),
        "measures_apart": max(abs(our_measures[name] - value) for name, value in their_measures.items()),
        "wrong_apart": distance(mean_of_means, theirs)["apart"],
        "samples": len(samples[0]),
    }


def check_policy_gradients(ranks: Ranks) -> dict[str, Any]:
    agent = PPO(env=share_of_envs(ranks), n_steps=16, batch_size=64, n_epochs=1, seed=0, device="cpu")
    results: dict[str, Any] = {"alike_at_first": ranks.are_alike(agent.weights())}
    agent.learn(128)
    results["steps"] = agent.num_timesteps
    results["minibatches"] = [len(batch.advantages) for batch in agent._minibatches()]
    results["even"] = compared(agent, next(iter(agent.rollout_buffer.get())))
    results["value"] = compared(agent, next(iter(agent.rollout_buffer.get())), value_only=True)
    if ranks.rank == 1:  # as if an environment had lost half of its rollout
        agent.rollout_buffer.lost[:11, :3] = True
    minibatches = list(agent._minibatches())
    results["lost"] = compared(agent, minibatches[0])
    results["minibatches_lost"] = [len(minibatches), *ranks.gather(sum(len(b.advantages) for b in minibatches))]
    agent.batch_tokens = 1500
    minibatches = list(agent._minibatches())
    results["batch_tokens"] = compared(agent, minibatches[-1])
    results["minibatches_of_tokens"] = ranks.gather(len(minibatches))
    agent.batch_tokens = None
    agent.train()
    results["alike_at_last"] = ranks.are_alike(agent.weights())
    with torch.no_grad():
        next(agent.policy.parameters()).add_(ranks.rank * 1e-7)
    results["drifted"] = not ranks.are_alike(agent.weights())
    try:
        agent.save("nowhere")
    except RanksError as error:
        results["refused_drift"] = str(error)
    return results


def check_groups(ranks: Ranks) -> dict[str, Any]:
    env = share_of_envs(ranks, group_size=2, max_steps=12)
    agent = GRPO(env=env, group_size=2, n_steps=12, batch_size=64, n_epochs=1, divide_by_length=True, seed=0)
    agent.learn(96)
    silent: Any = _Silent(agent)
    agent.collect_rollouts(agent.env or env, silent, agent.rollout_buffer, 12)
    minibatches = list(agent._minibatches())
    return {**compared(agent, minibatches[0]), "counts": ranks.gather(len(minibatches))}


class _Silent:
    """Stands for callbacks."""

    def __init__(self, agent: Any):
        self._agent = agent

    def on_rollout_start(self) -> None:
        pass

    def on_rollout_end(self) -> None:
        self._agent.take_in_episodes()

    def update_locals(self, _: Any) -> None:
        pass

    def on_step(self) -> bool:
        return True


def check_dqn(ranks: Ranks) -> dict[str, Any]:
    arguments: dict[str, Any] = {"learning_starts": 40, "priority_exponent": 0.6, "batch_size": 32, "seed": 0}
    agent = DQN(env=share_of_envs(ranks), gradient_steps=1, **arguments)
    agent.learn(96)
    drawn: list[Batch] = []
    sample = agent._sample

    def remembered(batch_size: int) -> Batch:
        drawn.append(sample(batch_size))
        return drawn[-1]

    agent._sample = remembered  # type: ignore[method-assign]
    agent.policy.optimizer.step = lambda *_: None  # type: ignore[assignment, method-assign]
    agent.train(1, 32)
    ours = gradient_of(agent)
    batch = united(ranks.gather(drawn[0]))
    agent._sample = lambda _: batch._replace(indices=drawn[0].indices)  # type: ignore[assignment, method-assign]
    agent.replay_buffer.update_priorities = lambda *_: None  # type: ignore[method-assign]
    target_steps = agent._steps_of_target
    agent.ranks = ALONE
    agent.train(1, 32)
    theirs = gradient_of(agent)
    return {
        **distance(ours, theirs),
        "samples": len(batch.actions),
        "weights": float(batch.weights.max()),
        "capacity": agent.replay_buffer.capacity,
        "target_steps": target_steps,
    }


def check_cloning(ranks: Ranks) -> dict[str, Any]:
    """Clone in all processes together and then in each alone: the losses must be the same."""
    episodes = [
        Demonstration(
            seed=seed,
            instruction="go to the red ball",
            observations=tuple(f"red ball {seed + step} ahead" for step in range(4)),
            actions=(0, 1, 2),
            rewards=(0.0, 0.0, 1.0),
            terminated=True,
            success=True,
        )
        for seed in range(1, 8)
    ]
    results = []
    for together in (ranks, ALONE):
        agent = PPO(env=share_of_envs(ranks), n_steps=16, batch_size=128, seed=0)
        agent.ranks = together
        cloned = clone(agent, episodes, Cloning(epochs=2, batch_size=8, seed=3))
        results.append([dataclasses.astuple(epoch) for epoch in cloned.epochs])
    return {"together": results[0], "alone": results[1]}


def check_streams(ranks: Ranks) -> dict[str, Any]:
    """Return what all environments show first, and what their scaled rewards come to."""
    env = ScaledRewardsVecEnv(share_of_envs(ranks, max_steps=3), gamma=0.9)
    first = env.reset()
    shown = [str(text) for text in first["observation"]]
    for step in range(4):
        _, rewards, _, infos = env.step(np.full(env.num_envs, step % 3))
    assert all(EPISODE_LOST not in info for info in infos)
    return {
        "shown": [text for part in ranks.gather(shown) for text in part],
        "scale": ranks.gather(env.scale),
        "rewards": len(rewards),
    }


def check_messages(ranks: Ranks) -> dict[str, Any]:
    """Return what the messages between the ranks come to, and errors that the first has."""

    def fail() -> None:
        raise CheckpointError("there is none")

    try:
        ranks.first(fail)
        failed = ""
    except CheckpointError as error:
        failed = str(error)
    values = torch.arange(5.0)[: 2 + ranks.rank] + 3 * ranks.rank
    mean, deviation = ranks.moments(values)
    weight = torch.nn.Parameter(torch.zeros(2))
    unused = torch.nn.Parameter(torch.zeros(3))
    if not ranks.is_first:
        weight.grad = torch.tensor([1.0, 2.0])
    measures = ranks.sum_gradients([weight, unused], {"one": 1.0 + ranks.rank})
    tensor = torch.full((2,), float(ranks.rank))
    ranks.broadcast([tensor])
    return {
        "failed": ranks.gather(failed),
        "moments": [float(mean), float(deviation)],
        "gradient": None if weight.grad is None else weight.grad.tolist(),
        "unused": unused.grad is None,
        "measures": measures,
        "made_alike": ranks.gather(tensor.tolist()),
        "seeds": ranks.gather(ranks.seed(5)),
        "told": sum(ranks.gather(ranks.first_to_tell())),
    }


def check_environments_of_all_alike(ranks: Ranks) -> str:
    try:
        PPO(env=make(LEVEL, n_envs=2, seed=0), n_steps=16, batch_size=32, seed=0)
    except ValueError as error:
        return str(error)
    return ""


def trained(arguments: list[str], folder: Path) -> int:
    try:
        train_module.main([*arguments, "--run-dir", str(folder)])
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else -1
    return 0


def with_signal_at(steps: int, number: signal.Signals) -> Callable[[], None]:
    """Send the last process a signal, from itself, at a step; return what takes that back."""
    on_step = StopWhenSolved._on_step

    def signalled(callback: StopWhenSolved) -> bool:
        if callback.num_timesteps == steps and int(os.environ["RANK"]) > 0:
            os.kill(os.getpid(), number)
        return on_step(callback)

    StopWhenSolved._on_step = signalled  # type: ignore[assignment, method-assign]

    def back() -> None:
        StopWhenSolved._on_step = on_step  # type: ignore[method-assign]

    return back


def check_stopping(kind: str, folder: Path) -> dict[str, Any]:
    """Train without a break, and the same with one."""
    whole = trained(SMALL[kind], folder / f"{kind}-whole")
    back = with_signal_at(STOPS[kind], signal.SIGTERM)
    stopped = trained(SMALL[kind], folder / f"{kind}-stopped")
    back()
    return {"whole": whole, "stopped": stopped, "resumed": trained(["--resume"], folder / f"{kind}-stopped")}


def refused(ranks: Ranks, arguments: list[str], folder: Path) -> list[int]:
    forget_what_was_told(ranks)
    return ranks.gather(trained(arguments, folder))


def forget_what_was_told(ranks: Ranks) -> None:
    ranks.first(lambda: ranks._store.delete_key("heed/told") and None)


def main() -> None:
    """Run all of it, with the results in the folder that the first argument names."""
    folder = Path(sys.argv[1])
    # Each network of this job would try out how its model is read.
    keep_trials(setattr)
    with join("cpu") as ranks:
        results = {
            "count": ranks.count,
            "threads": torch.get_num_threads(),
            "messages": check_messages(ranks),
            "streams": check_streams(ranks),
            "alike": check_environments_of_all_alike(ranks),
            "policy_gradients": check_policy_gradients(ranks),
            "groups": check_groups(ranks),
            "dqn": check_dqn(ranks),
            "cloning": check_cloning(ranks),
            "stopping": {kind: check_stopping(kind, folder) for kind in SMALL},
            "refused": refused(ranks, [*OPTIONS, "--n-envs", "3"], folder / "refused"),
        }
        checkpoint = sorted((folder / "ppo-whole" / "checkpoints").iterdir())[-1]
        results["loaded"] = load(checkpoint).num_timesteps
        if ranks.is_first:
            (folder / "results.json").write_text(json.dumps(results))
        forget_what_was_told(ranks)
        with_signal_at(400, signal.SIGKILL)
        train_module.main([*SMALL["ppo"], "--run-dir", str(folder / "killed")])
