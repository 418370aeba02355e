"""Two real processes that train one agent: the gradients of one, its episodes, one checkpoint, an end for all."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from examples.kill_and_resume import differences
from heed.agents import DQN, PPO, CheckpointError, QLearning, load
from heed.agents.distributed.ranks import ALONE, Ranks, RanksError, current, join, started
from heed.agents.policy_gradient import _in_parts
from heed.agents.rollouts.groups import EpisodeGroups
from heed.agents.rollouts.scaled_rewards import ScaledRewardsVecEnv
from heed.envs import LanguageVecEnv
from heed.envs.make import make
from heed.scripts.train import require_shares
from heed.training.errors import ConfigurationError
from heed.training.options import TrainConfig
from heed.training.run_folder import RunFolder
from tests.buttons import Buttons
from tests.forked import start_main
from tests.ranks_job import LEVEL, N_ENVS

GRADIENT = 1e-6
"""How far the gradient of two processes may lie from that of one."""


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int], list[str]]:
    """Run `tests.ranks_job` in two processes; return its folder, and their exit statuses and standard errors."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # What a launcher sets.
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    variables = {**os.environ, **shared, "OMP_NUM_THREADS": "1"}
    errors = [folder / f"stderr-{rank}.txt" for rank in range(2)]
    processes = [
        start_main(
            "tests.ranks_job",
            [str(folder)],
            variables={**variables, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            out=folder / f"stdout-{rank}.txt",
            error=errors[rank],
        )
        for rank in range(2)
    ]
    for process in processes:
        process.join(timeout=600)
    told = [path.read_text() for path in errors]
    assert (folder / "results.json").is_file(), "\n".join(told)
    return folder, [process.exitcode or 0 for process in processes], told


@pytest.fixture(scope="module")
def results(job: tuple[Path, list[int], list[str]]) -> dict[str, Any]:
    saved: dict[str, Any] = json.loads((job[0] / "results.json").read_text())
    return saved


# -- the same as one process -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["even", "value", "lost", "batch_tokens"])
def test_the_gradient_of_a_policy_gradient_is_that_of_one_process(results: dict[str, Any], case: str) -> None:
    found = results["policy_gradients"][case]
    assert found["apart"] < GRADIENT < 1e-3 < found["largest"]
    assert found["measures_apart"] < GRADIENT
    if case != "value":  # where nothing is normalised, equal shares have the right mean
        assert found["wrong_apart"] > 1e-3


def test_the_gradients_of_grpo_and_dqn_are_those_of_one_process(results: dict[str, Any]) -> None:
    assert results["groups"]["apart"] < GRADIENT < 1e-4 < results["groups"]["largest"]
    assert results["dqn"]["apart"] < GRADIENT < 1e-3 < results["dqn"]["largest"]
    assert results["dqn"]["samples"] == 32
    assert results["dqn"]["weights"] == pytest.approx(1.0)


def test_minibatches_are_as_many_as_in_one_process_and_equally_many_in_both(results: dict[str, Any]) -> None:
    found = results["policy_gradients"]
    assert found["steps"] == N_ENVS * 16
    assert found["minibatches"] == [32, 32]  # halves of 64
    assert found["even"]["samples"] == 128
    # One process has lost 33 of its 64 steps.
    assert found["minibatches_lost"] == [2, 64, 31]
    assert len(set(found["minibatches_of_tokens"])) == len(set(results["groups"]["counts"])) == 1


def test_cloning_together_is_cloning_alone(results: dict[str, Any]) -> None:
    np.testing.assert_allclose(results["cloning"]["together"], results["cloning"]["alone"], rtol=1e-4, atol=1e-6)


def test_sizes_are_those_of_all_processes_together(results: dict[str, Any]) -> None:
    assert results["dqn"]["capacity"] == 25_000
    assert results["dqn"]["target_steps"] == 125


def test_environments_have_the_episodes_that_they_have_in_one_process(results: dict[str, Any]) -> None:
    env = ScaledRewardsVecEnv(make(LEVEL, n_envs=N_ENVS, seed=0, max_steps=3), gamma=0.9)
    assert list(env.reset()["observation"]) == results["streams"]["shown"]
    for step in range(4):
        env.step(np.full(N_ENVS, step % 3))
    assert results["streams"]["scale"] == pytest.approx([env.scale] * 2, abs=1e-12)
    assert "first_index" in results["alike"]


def test_environments_that_do_not_begin_with_a_group_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of the group size 4"):
        make(LEVEL, n_envs=4, first_index=2, group_size=4)


# -- what they tell each other -----------------------------------------------------------------------------------------


def test_messages(results: dict[str, Any]) -> None:
    found = results["messages"]
    assert found["failed"] == ["there is none"] * 2
    values = torch.tensor([0.0, 1.0, 3.0, 4.0, 5.0])
    assert found["moments"] == pytest.approx([float(values.mean()), float(values.std())])
    assert found["gradient"] == [1.0, 2.0]  # of one that the first has none of
    assert found["unused"]
    assert found["measures"] == {"one": 3.0}
    assert found["made_alike"] == [[0.0, 0.0], [0.0, 0.0]]
    assert found["seeds"][0] == 5 != found["seeds"][1]
    assert found["told"] == 1


def test_weights_that_drift_apart_are_found(results: dict[str, Any]) -> None:
    found = results["policy_gradients"]
    assert found["alike_at_first"]
    assert found["alike_at_last"]
    assert found["drifted"]
    assert "are not the same any more" in found["refused_drift"]


# -- checkpoints and ends ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ppo", "dqn"])
def test_a_signal_to_one_ends_all_and_the_training_goes_on_exactly(
    job: tuple[Path, list[int], list[str]], results: dict[str, Any], kind: str
) -> None:
    assert results["stopping"][kind] == {"whole": 0, "stopped": 143, "resumed": 0}
    assert differences(job[0] / f"{kind}-whole", job[0] / f"{kind}-stopped") == []
    curve = RunFolder(job[0] / f"{kind}-whole").read_curve()
    assert [point["steps"] for point in curve] == sorted({point["steps"] for point in curve})
    checkpoint = RunFolder(job[0] / f"{kind}-whole").latest_checkpoint()
    states = [json.loads((checkpoint / name).read_text()) for name in ("agent.json", "rank-1/own.json")]
    assert states[0]["ranks"] == 2
    assert states[0]["random"]["numpy"] != states[1]["random"]["numpy"]
    assert sum(len(state["envs"]["episodes"]) for state in states) == {"ppo": 8, "dqn": 32}[kind]


def test_a_checkpoint_of_two_processes_plays_in_one_but_is_not_trained_on(
    job: tuple[Path, list[int], list[str]], results: dict[str, Any]
) -> None:
    checkpoint = RunFolder(job[0] / "ppo-whole").latest_checkpoint()
    assert load(checkpoint).num_timesteps == results["loaded"] == 512
    with pytest.raises(CheckpointError, match=r"made by 2 processes.* cannot be trained on by 1"):
        load(checkpoint, env=make(LEVEL, n_envs=4, seed=0))


def test_the_death_of_one_ends_the_other_with_a_sentence_and_the_checkpoint_is_good(
    job: tuple[Path, list[int], list[str]],
) -> None:
    folder, statuses, told = job
    assert statuses == [2, -9]
    # All that the survivor has said: two signals, an option that was refused, and why it ends.
    lines = [line for line in told[0].splitlines() if line.strip()]
    assert lines[0] == lines[1] == "SIGTERM: the 2 processes end here, with a checkpoint."
    assert "--n-envs is 3, but must be a multiple of 2" in "".join(told)
    assert lines[-1].startswith("One of the 2 processes of this training has ended")
    assert "Its last good checkpoint is step-000000000256." in lines[-1]
    assert "torchrun --nproc-per-node 2 --no-python heed train --run-dir" in lines[-1]
    assert not any("Traceback" in text for text in told)
    assert load(RunFolder(folder / "killed").latest_checkpoint()).num_timesteps == 256


# -- without others ----------------------------------------------------------------------------------------------------


def test_alone_everything_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")  # which others set too
    assert started() == 1
    with join() as ranks:
        assert ranks is current() is ALONE
    things = [1, 2, 3]
    assert ALONE.part(things) is things
    assert ALONE.sums([1.5]) == [1.5]
    assert (ALONE.total(3), ALONE.most(3), ALONE.gather(3), ALONE.to_first(3)) == (3, 3, [3], [3])
    assert ALONE.first_to_tell()
    assert ALONE.command == "heed"


def test_accelerate_that_is_missing_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    threads = torch.get_num_threads()
    with pytest.raises(RanksError, match=r"pip install 'heed\[distributed\]'"), join("cpu"):
        pass
    torch.set_num_threads(threads)
    assert current() is ALONE


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"n_envs": 9}, "must be a multiple of 2"),
        ({"n_envs": 12, "agent": "grpo", "group_size": 4}, "multiple of 8: 2 processes with groups of 4"),
        ({"n_envs": 6, "agent": "grpo", "group_size": 4}, "multiple of --group-size 4"),
        ({"curriculum": "failures", "env": f"{LEVEL}+BabyAI-GoToLocal-v0"}, "--curriculum hangs on what all"),
        ({"intrinsic": "count"}, "--intrinsic hangs on what all"),
        ({"agent": "q-learning", "n_envs": 2}, "no gradients"),
    ],
)
def test_what_two_processes_cannot_do_is_refused(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        require_shares(TrainConfig(**arguments).resolved(), 2)


def test_an_agent_refuses_what_its_processes_cannot_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heed.agents.agent.current", lambda: Ranks(1, 3))
    with pytest.raises(ValueError, match="batch_size is 64, but must be a multiple of the 3 processes"):
        DQN(env=None, batch_size=64, _init_setup_model=False)
    with pytest.raises(ValueError, match="no gradients"):
        QLearning(env=None, _init_setup_model=False)
    assert PPO.ranks is ALONE


def test_groups_of_a_later_process_have_rows_of_their_own() -> None:
    """The first environment here is the fifth of all, so the first row is the third."""
    env = LanguageVecEnv([Buttons] * 2, seed=0, first_index=4, group_size=2)
    env.reset()
    assert env.running_groups == [(2, 0), (2, 0)]
    space = spaces.Box(-1, 9, (3,), np.int16)
    arguments: Any = {"gamma": 1.0, "divide_by_deviation": False, "divide_by_length": False, "device": "cpu"}
    groups = EpisodeGroups(space, spaces.Discrete(2), group_size=2, n_envs=2, **arguments)
    prompts, actions, nothing = np.zeros((2, 3), dtype=np.int16), np.zeros((2, 1)), np.zeros(2)
    for number in range(2):
        _, rewards, dones, infos = env.step(np.zeros(2, dtype=int))
        assert [info["episode_group"] for info in infos] == [(2, number), (2, number)]
        infos[1] |= {"episode_lost": "broken"} if number == 0 else {}
        groups.add(prompts, actions, nothing, rewards, dones, infos, env.running_groups)
    # One episode of the first group was lost, and none of it runs any more: of the two groups one is complete.
    assert [len(group) for group in groups.complete] == [2]


@pytest.mark.parametrize(("lengths", "parts"), [([5, 5, 5, 5], 2), ([9, 1, 1, 1], 3), ([50, 1], 2), ([2], 3)])
def test_parts_by_tokens_are_as_many_as_asked_and_leave_nothing_out(lengths: list[int], parts: int) -> None:
    found = _in_parts(torch.tensor(lengths).cumsum(dim=0), parts)
    assert len(found) == parts
    assert all(len(rows) for rows in found)
    assert set(torch.cat(found).tolist()) == set(range(len(lengths)))
    if (lengths, parts) == ([5, 5, 5, 5], 2):
        assert [rows.tolist() for rows in found] == [[0, 1], [2, 3]]
