"""Both agents learn, with both heads, and as SB3's users run them: callbacks, loggers, progress bar."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback
from stable_baselines3.common.logger import configure

from heed.agents import DQN, PPO, load
from heed.evaluation.playing import greedy, run_episodes, sampled, success_rate
from tests.buttons import Buttons, make_buttons

OPTIONS: dict[type[PPO | DQN], dict[str, Any]] = {
    PPO: {"n_steps": 16, "batch_size": 64, "learning_rate": 1e-3, "ent_coef": 0.0},
    DQN: {
        "learning_starts": 64,
        "buffer_size": 2000,
        "batch_size": 64,
        "target_update_interval": 64,
        "gradient_steps": 1,
        "learning_rate": 1e-3,
    },
}


# Without an entropy bonus, PPO with a linear head settles on two of the three buttons with every second seed.
@pytest.mark.parametrize(
    ("kind", "steps", "head", "options"),
    [
        (PPO, 2560, "score", {}),
        pytest.param(PPO, 8192, "linear", {"ent_coef": 0.1}, marks=pytest.mark.exhaustive),
        (DQN, 2560, "score", {}),
        pytest.param(DQN, 4096, "linear", {}, marks=pytest.mark.exhaustive),
    ],
)
def test_an_agent_learns_to_heed_its_instruction(
    kind: type[PPO | DQN], steps: int, head: str, options: dict[str, Any]
) -> None:
    agent = kind(env=make_buttons(16), seed=0, policy_kwargs={"head": head}, **{**OPTIONS[kind], **options})
    agent.learn(steps)
    seeds = list(range(200))
    assert success_rate(run_episodes(Buttons, greedy(agent), seeds)) == 1.0
    # Guessing succeeds one time in three; the last epsilon of DQN costs two thirds of 0.05.
    assert success_rate(run_episodes(Buttons, sampled(agent), seeds)) > 0.85
    words = {"instruction": ["press the blue button"], "observation": ["three buttons"]}
    assert agent.action_probabilities(words)[0].argmax() == 2


class CountSteps(BaseCallback):
    def __init__(self) -> None:
        super().__init__()
        self.steps = self.ends = 0

    def _on_step(self) -> bool:
        self.steps += 1
        return True

    def _on_rollout_end(self) -> None:
        self.ends += 1


# tqdm calls its rich bar experimental; SB3's progress bar is that one.
@pytest.mark.filterwarnings("ignore::tqdm.TqdmExperimentalWarning")
def test_callbacks_loggers_and_the_progress_bar_work_as_in_sb3(tmp_path: Path) -> None:
    agent = PPO(env=make_buttons(4), seed=0, n_steps=8, batch_size=16, n_epochs=1)
    agent.set_logger(configure(str(tmp_path / "log"), ["csv", "json"]))
    count = CountSteps()
    saver = CheckpointCallback(save_freq=8, save_path=str(tmp_path / "saved"), name_prefix="agent")
    agent.learn(64, callback=[count, saver], progress_bar=True)
    agent.logger.close()
    assert (count.steps, count.ends) == (16, 2)
    assert "rollout/success_rate" in (tmp_path / "log" / "progress.csv").read_text()
    assert load(tmp_path / "saved" / "agent_32_steps.zip").num_timesteps == 32
    assert agent.ep_info_buffer is not None
    assert agent.ep_info_buffer[0]["l"] == 1


def test_an_environment_that_is_not_vectorised_gets_a_sentence() -> None:
    with pytest.raises(TypeError, match=r"Buttons is not a VecEnv: put it into a vector, `heed\.envs\.LanguageVecEnv"):
        PPO(env=Buttons())


def test_a_callback_that_returns_false_ends_the_training() -> None:
    class Stop(BaseCallback):
        def _on_step(self) -> bool:
            return self.num_timesteps < 12

    agent = PPO(env=make_buttons(4), seed=0, n_steps=8, batch_size=16)
    agent.learn(1000, callback=Stop())
    assert agent.num_timesteps == 12


def test_the_policy_of_the_same_seed_is_the_same() -> None:
    first, second = (PPO(env=make_buttons(8), seed=5, policy_kwargs={"head": "linear"}) for _ in range(2))
    for ours, theirs in zip(first.policy.parameters(), second.policy.parameters(), strict=True):
        np.testing.assert_array_equal(ours.detach().numpy(), theirs.detach().numpy())
