"""What a training shows and saves while it goes on, as SB3 callbacks."""

from __future__ import annotations

import json
import time

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_wrapper

from heed.agents.distributed.ranks import ALONE, Ranks
from heed.agents.exploration import IntrinsicRewardVecEnv
from heed.envs.faults import LostEpisode
from heed.envs.wrappers.curriculum import CurriculumVecEnv
from heed.training.run_checkpoints import Worth
from heed.training.run_folder import RunFolder
from heed.training.training_time import TrainingTime


class ProgressBar(BaseCallback):
    """A bar with success rate, return, steps per second and the time left."""

    def __init__(self, total: int):
        super().__init__()
        self._total = total
        self._shown = 0.0
        self._progress = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(
                "success {task.fields[success]}  return {task.fields[episode_return]}  {task.fields[speed]} steps/s"
            ),
            TimeRemainingColumn(),
        )

    def _on_training_start(self) -> None:
        self._begin_time, self._begin_steps = time.monotonic(), self.num_timesteps
        self._task = self._progress.add_task(
            "", total=self._total, completed=self.num_timesteps, success="-", episode_return="-", speed="-"
        )
        self._progress.start()

    def _on_step(self) -> bool:
        now = time.monotonic()
        if now - self._shown > 0.25:
            self._shown = now
            self._show(now)
        return True

    def _show(self, now: float) -> None:
        successes, episodes = self.model.ep_success_buffer, self.model.ep_info_buffer
        self._progress.update(
            self._task,
            completed=min(self.num_timesteps, self._total),
            success=f"{np.mean(successes):.2f}" if successes else "-",
            episode_return=f"{np.mean([episode['r'] for episode in episodes]):.2f}" if episodes else "-",
            speed=f"{(self.num_timesteps - self._begin_steps) / max(now - self._begin_time, 1e-9):.0f}",
        )

    def _on_training_end(self) -> None:
        self._show(time.monotonic())
        self.close()

    def close(self) -> None:
        """Take the bar off the terminal."""
        self._progress.stop()


class Checkpointing(BaseCallback):
    """Saves the agent every `every` steps, between two rollouts, where a training can be continued exactly.

    The steps are counted from the training's beginning: one that was stopped and goes on saves where it would have.

    Args:
        run: the run.
        time_taken: is told of each checkpoint.
        every: steps.
        keep: how many of the newest stay.
        ranks: the processes that train together; the first of them writes.
    """

    def __init__(
        self,
        run: RunFolder,
        time_taken: TrainingTime | None,
        *,
        every: int,
        keep: int,
        ranks: Ranks = ALONE,
    ):
        super().__init__()
        self._ranks = ranks
        self._run = run
        self._time_taken = time_taken
        self._every = every
        self._keep = keep

    def _on_training_start(self) -> None:
        self._saved_at = self.num_timesteps
        # A kill may have come between the checkpoint that the training goes on from and the note of what it is worth.
        if self._ranks.is_first and self._run.checkpoint_path(self._saved_at).is_dir():
            self._run.saved.note(Worth.of(self.model))

    def _on_rollout_start(self) -> None:
        if self.num_timesteps // self._every > self._saved_at // self._every:
            self.save()

    def _on_step(self) -> bool:
        return True

    def save(self) -> None:
        """Save now, unless that is done; called by all ranks.

        Raises:
            OSError: if the disk does not take it; the checkpoints before it stay.
        """
        steps = self.model.num_timesteps
        self._saved_at = steps
        if self._ranks.first(self._run.checkpoint_path(steps).is_dir):
            return
        self._ranks.first(self._run.flush)
        self.model.save(self._run.checkpoint_path(steps))
        self._ranks.first(self._note)

    def _note(self) -> None:
        """Take notice of the checkpoint that was just written."""
        self._run.saved.note(Worth.of(self.model))
        self._run.saved.remove_old(self._keep)
        if self._time_taken is not None:
            self._time_taken.note(self._saved_at)


class StopWhenSolved(BaseCallback):
    """Ends the training when the last `episodes` episodes succeeded at the rate `success`.

    The episodes are those of the agent's own statistics, which a checkpoint holds, so a resumed training ends where the
    uninterrupted one does.
    """

    def __init__(self, success: float, *, episodes: int):
        super().__init__()
        self._success = success
        self._episodes = episodes
        self.reached: float | None = None
        """The success rate at which it stopped, if it did."""

    def is_solved(self, agent: BaseAlgorithm) -> bool:
        """Say whether an agent is so far, as one may be that is loaded."""
        successes = agent.ep_success_buffer
        if successes is None or len(successes) < self._episodes or sum(successes) < self._success * len(successes):
            return False
        self.reached = float(np.mean(successes))
        return True

    def _on_step(self) -> bool:
        return not self.is_solved(self.model)


class LogIntrinsicReward(BaseCallback):
    """Logs what is added to rewards for states that are new, as a running mean."""

    def _on_step(self) -> bool:
        env = unwrap_vec_wrapper(self.training_env, IntrinsicRewardVecEnv)
        if env is not None:
            self.logger.record("rollout/intrinsic_reward", env.mean_bonus)
        return True


class LogCurriculum(BaseCallback):
    """Logs how often each level or task is drawn, and its success rate in the curriculum's window."""

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        env = unwrap_vec_wrapper(self.training_env, CurriculumVecEnv)
        if env is None:
            return
        rates = env.success_rates
        for name, weight in env.sampling_weights.items():
            self.logger.record(f"curriculum/{name}/sampling_weight", weight)
            if name in rates:
                self.logger.record(f"curriculum/{name}/success", rates[name])


class RecordLostEpisodes(BaseCallback):
    """Writes into a run's folder what is known of each episode that an environment loses.

    Args:
        run: the run.
        ranks: the processes that train together: the first writes what all of them have lost.
    """

    def __init__(self, run: RunFolder, ranks: Ranks = ALONE):
        super().__init__()
        self._run = run
        self._ranks = ranks
        self._written = 0
        self._exchanged = 0
        """Losses of all ranks that were written."""

    def _on_training_start(self) -> None:
        # A training that goes on begins with the losses of its checkpoint, which are written already. Those of the
        # reset that begins a new one are not.
        env = self.training_env.unwrapped
        self._written = env.lost_count - len(env.lost_episodes)  # type: ignore[attr-defined]

    def _on_rollout_end(self) -> None:
        # All ranks have just taken in how many all of them have lost, so all of them come here.
        lost = self.model.episodes_of_all.lost if self._ranks.several else 0  # type: ignore[attr-defined]
        if lost > self._exchanged:
            self._exchanged = lost
            of_all = self._ranks.gather(self._new(self.training_env))
            if self._ranks.is_first:
                self._append([record for records in of_all for record in records])

    def _on_step(self) -> bool:
        if self._ranks.several:
            return True
        if self.training_env.unwrapped.lost_count > self._written:  # type: ignore[attr-defined]
            self.write(self.training_env)
        return True

    def write(self, env: VecEnv) -> None:
        """Write what is not written yet; of several ranks, what the first has lost itself."""
        if self._ranks.is_first:
            self._append(self._new(env))

    def _new(self, env: VecEnv) -> list[LostEpisode]:
        """Return what is not written yet."""
        count, records = env.unwrapped.lost_count, env.unwrapped.lost_episodes  # type: ignore[attr-defined]
        new: list[LostEpisode] = records[-(count - self._written) :] if count > self._written else []
        self._written = count
        return new

    def _append(self, records: list[LostEpisode]) -> None:
        if records:
            with self._run.lost_episodes.open("a", encoding="utf-8") as file:
                for lost in records:
                    file.write(json.dumps({"steps": self.num_timesteps, **lost.as_json()}) + "\n")
