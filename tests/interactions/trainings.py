"""Trainings of a combination of features, made the way `heed train` makes them, and what must hold of all of them."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from heed.agents import AGENTS, DQN, GRPO
from heed.agents.distributed.ranks import ALONE
from heed.agents.imitation.cloning import Cloning, clone
from heed.envs.contract import sample_action
from heed.envs.demonstrations.demonstrate import demonstrate
from heed.envs.demonstrations.demonstrations import (
    Demonstrations,
    demonstration_seeds,
    read_demonstrations,
    write_demonstrations,
)
from heed.envs.make import make_env
from heed.policies.prompts.prompt import PromptVecEnv
from heed.scripts.train import make_training_env
from heed.training.agent_arguments import agent_arguments
from heed.training.cloning import read_for
from heed.training.options import TrainConfig
from tests.ledger import LEVELS, THINGS, Place, instruction_to_take, name_of, places_in

HELD_OUT = "red hat"
N_ENVS, ROLLOUT = 4, 8
HALF = N_ENVS * ROLLOUT * 2
"""Steps up to the checkpoint, and from there to the end."""
DEMONSTRATED = 12

FACTORS: dict[str, Sequence[Any]] = {
    "agent": ("ppo", "a2c", "reinforce", "grpo", "dqn"),
    "hold_out": (False, True),
    "augment": ((), ("politeness", "impossible", "injected")),
    "changed_midway": (False, True),
    "levels": ("one", "mixture", "curriculum"),
    "history": (False, True),
    "changing_actions": (False, True),
    "auxiliary": ("", "-numbers", "-image"),
    "processes": (1, 2),
    "intrinsic": (None, "count", "rnd"),
    "demonstrations": (False, True),
}
"""What is combined. Groups of episodes that begin alike are GRPO's; resuming is part of every training."""

PLAIN: dict[str, Any] = {name: choices[0] for name, choices in FACTORS.items()}
"""Nothing but the agent."""


def env_id_of(combination: dict[str, Any]) -> str:
    levels = LEVELS[:1] if combination["levels"] == "one" else LEVELS
    ids = [
        name_of(level, changing=combination["changing_actions"], auxiliary=combination["auxiliary"]) for level in levels
    ]
    return "+".join(ids)


def config_of(combination: dict[str, Any], folder: Path, **more: Any) -> TrainConfig:
    """Return the options of `heed train` for a combination; the demonstrations are in `folder`."""
    agent = combination["agent"]
    options: dict[str, Any] = {
        "env": env_id_of(combination),
        "agent": agent,
        "n_envs": N_ENVS,
        "steps": 2 * HALF,
        "hold_out": (HELD_OUT,) if combination["hold_out"] else (),
        "augment": combination["augment"],
        "instruction_changes": "1-2" if combination["changed_midway"] else None,
        "curriculum": "failures" if combination["levels"] == "curriculum" else None,
        "history": int(combination["history"]),
        "processes": combination["processes"],
        "intrinsic": combination["intrinsic"],
        "demonstrations": folder / "demonstrations.jsonl" if combination["demonstrations"] else None,
        "max_prompt_tokens": 256,
    }
    if agent == "dqn":
        options |= {
            "batch_size": 8,
            "priority_exponent": 0.5,
            "margin_coef": 0.1 if combination["demonstrations"] else None,
        }
    else:
        options |= {"rollout_steps": ROLLOUT, "epochs": 1}
        if agent in ("ppo", "grpo"):
            options["batch_size"] = 16
        if agent == "grpo":
            options["group_size"] = 2
        else:
            options["value_warmup_steps"] = 0
    return TrainConfig(**{**options, **more}).resolved()


def write_demonstrations_of(combination: dict[str, Any], folder: Path) -> Demonstrations:
    """Record what the ledgers' expert does, held-out instructions too; return what was written."""
    env_id = env_id_of(combination)
    seeds = demonstration_seeds(0, DEMONSTRATED)
    outcomes = sorted(demonstrate(functools.partial(make_env, env_id), seeds, n_envs=2), key=lambda o: o.number)
    texts = () if combination["changing_actions"] else tuple(map(instruction_to_take, THINGS))
    episodes = tuple(outcome.demonstration for outcome in outcomes)
    written = Demonstrations(env=env_id, expert="bot", seed=0, action_texts=texts, episodes=episodes)
    write_demonstrations(folder / "demonstrations.jsonl", written)
    return written


def new_agent(config: TrainConfig) -> Any:
    """Return the agent of a configuration, with its environments, as `heed train` begins with it."""
    arguments = agent_arguments(config)
    if config.agent == "dqn":
        arguments |= {"learning_starts": ROLLOUT, "train_freq": 4, "gradient_steps": 1, "buffer_size": 1000}
    return AGENTS[config.agent](env=make_training_env(config, ALONE), seed=0, device="cpu", **arguments)


def learn_from(agent: Any, config: TrainConfig) -> None:
    """Take in the demonstrations, as `heed train` does before the first step."""
    demonstrations = read_for(config)
    if not demonstrations:
        return
    assert not config.hold_out or not any(HELD_OUT in one.instruction for one in demonstrations)
    if isinstance(agent, DQN):
        agent.add_demonstrations(demonstrations, history=config.history)
        agent.pretrain(1)
    else:
        clone(agent, demonstrations, Cloning(epochs=1, batch_size=16, seed=0), history=config.history)


class Auditor(BaseCallback):
    """Watches every step of a training, and fails where something does not belong together."""

    def __init__(self, *, held_out: bool, grouped: bool) -> None:
        super().__init__()
        self.held_out, self.grouped = held_out, grouped
        self.episodes = 0
        """That have ended."""
        self.levels: set[str] = set()
        self._groups: dict[tuple[int, int], set[tuple[str, int]]] = {}

    def _on_step(self) -> bool:
        vec: Any = self.model.env
        assert isinstance(vec, PromptVecEnv)
        for instruction, observation in zip(vec.words["instruction"], vec.words["observation"], strict=True):
            self._read(instruction, observation)
        for info, done in zip(self.locals["infos"], self.locals["dones"], strict=True):
            assert "episode_lost" not in info, info
            if done:
                self.episodes += 1
                last = places_of_prompt(vec, info["terminal_observation"])[-1]
                self.levels.add(last.level)
                if self.grouped:
                    begun_alike = self._groups.setdefault(tuple(info["episode_group"]), set())
                    begun_alike.add((last.level, last.episode))
                    assert len(begun_alike) == 1, "episodes of one group are of one level and one seed"
        return True

    def _read(self, instruction: str, observation: str) -> None:
        if self.held_out:
            assert HELD_OUT not in instruction, "an instruction that is held out was given"
        places = places_in(observation)
        assert places
        assert len({(place.level, place.episode) for place in places}) == 1, "a transcript of two episodes"
        assert [place.step for place in places] == list(range(places[0].step, places[-1].step + 1))


def places_of_prompt(env: Any, prompt: npt.NDArray[Any]) -> list[Place]:
    return places_in(env.encoder.decode(prompt))


def instruction_of_prompt(env: Any, prompt: npt.NDArray[Any]) -> str:
    """Return the instruction, which stands first in the prompts of heed-words."""
    return str(env.encoder.decode(prompt).strip().splitlines()[0].strip())


def audit_replay(agent: DQN, *, held_out: bool) -> int:
    """Check that every transition is of one episode, and of an instruction that may be given; return how many."""
    buffer, env = agent.replay_buffer, agent.env
    for row in range(buffer.size):
        before, after = (rows[row] for rows in (buffer.observations, buffer.next_observations))
        first, last = places_of_prompt(env, before)[-1], places_of_prompt(env, after)[-1]
        assert (first.level, first.episode) == (last.level, last.episode), "a transition into another episode"
        if buffer.discounts[row]:
            assert 1 <= last.step - first.step <= buffer.n_steps
            np.testing.assert_allclose(buffer.discounts[row], buffer.gamma ** (last.step - first.step), rtol=1e-6)
        instructions = {instruction_of_prompt(env, prompt) for prompt in (before, after)}
        assert all("take the " in instruction for instruction in instructions)
        if held_out:
            assert not any(HELD_OUT in instruction for instruction in instructions)
        # A success, a step or several of them: bonuses for what is new are learned from where they were paid.
        assert np.isfinite(buffer.rewards[row])
    return int(buffer.size)


def weights_of(agent: Any) -> dict[str, torch.Tensor]:
    return {
        f"{number}.{name}": tensor.clone()
        for number, policy in enumerate(agent._policies())
        for name, tensor in policy.state_dict().items()
    }


def play(env: VecEnv, steps: int, seed: int = 0) -> Iterator[Any]:
    """Yield what vectorised environments give for actions that are drawn from what there is to choose."""
    generator = np.random.default_rng(seed)
    observations: Any = env.reset()
    yield _as_lists(observations)
    for _ in range(steps):
        each = [{key: value[index] for key, value in observations.items()} for index in range(env.num_envs)]
        actions = [sample_action(env.action_space, one, generator) for one in each]
        observations, rewards, dones, infos = env.step(np.array(actions))
        told = [{k: v for k, v in info.items() if k not in ("episode", "terminal_observation")} for info in infos]
        ends = [_as_lists(info.get("terminal_observation", {})) for info in infos]
        yield _as_lists(observations), rewards.tolist(), dones.tolist(), told, ends


def _as_lists(observations: Any) -> dict[str, Any]:
    return {
        key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in sorted(observations.items())
    }


def check(combination: dict[str, Any]) -> None:
    """Train a combination, stop and continue it, and check all that must hold whatever is combined."""
    held_out, grouped = combination["hold_out"], combination["agent"] == "grpo"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if combination["demonstrations"]:
            written = write_demonstrations_of(combination, folder)
            texts = written.action_texts
            assert_same_demonstrations(
                read_demonstrations(folder / "demonstrations.jsonl", action_texts=texts), written
            )
        config = config_of(combination, folder)
        agent = new_agent(config)
        learn_from(agent, config)
        auditor = Auditor(held_out=held_out, grouped=grouped)
        agent.learn(HALF, callback=auditor)
        agent.save(folder / "half")
        beginning = agent.num_timesteps
        agent.learn(2 * HALF - beginning, callback=auditor, reset_num_timesteps=False)

        # It was continued in another process, with environments of another seed.
        resumed: Any = AGENTS[config.agent].load(
            folder / "half", env=make_training_env(config_of(combination, folder, seed=4711), ALONE), device="cpu"
        )
        resumed.learn(
            2 * HALF - beginning, callback=Auditor(held_out=held_out, grouped=grouped), reset_num_timesteps=False
        )
        ours, theirs = weights_of(agent), weights_of(resumed)
        assert ours.keys() == theirs.keys()
        for name, tensor in ours.items():
            assert torch.equal(tensor, theirs[name]), f"{name} is not what it is without a pause"
        assert agent.get_env_state() == resumed.get_env_state()
        for one in (agent, resumed):
            if isinstance(one, DQN):
                assert audit_replay(one, held_out=held_out) > 2 * HALF / 2
            one.env.close()
        if isinstance(agent, DQN) and isinstance(resumed, DQN):
            for name in ("observations", "actions", "rewards", "discounts", "next_observations"):
                mine, other = getattr(agent.replay_buffer, name), getattr(resumed.replay_buffer, name)
                np.testing.assert_array_equal(mine, other)
        if isinstance(agent, GRPO):
            assert auditor._groups
        assert auditor.episodes >= N_ENVS
        assert auditor.levels == set(LEVELS[: 1 if combination["levels"] == "one" else 2])
        if combination["processes"] > 1:
            check_processes(combination, folder)


def check_processes(combination: dict[str, Any], folder: Path) -> None:
    """Check that episodes are the same in one process and in several."""
    one, several = (make_training_env(config_of(combination, folder, processes=count), ALONE) for count in (1, 2))
    try:
        for mine, theirs in zip(play(one, 16), play(several, 16), strict=True):
            assert mine == theirs
    finally:
        one.close()
        several.close()


def assert_same_demonstrations(read: Demonstrations, written: Demonstrations) -> None:
    """Check that a file gives back what was written, numbers and pictures too."""
    assert (read.env, read.expert, read.seed, read.action_texts) == (
        written.env,
        written.expert,
        written.seed,
        written.action_texts,
    )
    for mine, theirs in zip(read.episodes, written.episodes, strict=True):
        assert vars(mine).keys() == vars(theirs).keys()
        for name, value in vars(mine).items():
            np.testing.assert_equal(value, vars(theirs)[name])
