"""How deep Q-learning learns from demonstrations, after DQfD (Hester et al. 2018, arXiv 1704.03732).

They stay in the replay buffer, with a large-margin loss and a first phase on them alone if wished. DQfD adds one-step
to n-step targets and an L2 penalty; here there are n-step targets alone, and `optimizer_kwargs` takes a
`weight_decay`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import cast

from gymnasium import spaces
from stable_baselines3 import DQN as SB3DQN
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.type_aliases import TrainFreq
from torch import Tensor

from heed.agents.agent import LanguageAgent
from heed.agents.imitation.readable_demonstrations import readable
from heed.agents.replay.buffer import Batch, ReplayBuffer
from heed.envs.demonstrations.demonstrations import Demonstration


class DemonstratedDQN(LanguageAgent, SB3DQN):
    """SB3's DQN with demonstrations, which its replay buffer keeps."""

    replay_buffer: ReplayBuffer  # type: ignore[assignment] # SB3 calls nothing of it but `add`
    margin: float
    """By how much a demonstrated action's value is to exceed the others'."""

    def add_demonstrations(self, demonstrations: Sequence[Demonstration], *, history: int = 0) -> None:
        """Put demonstrations into the replay buffer, where they stay; before the first step of a training.

        Of several learners, which all are given the same ones, each keeps its part of them.

        Args:
            demonstrations: episodes that an expert played, with the agent's actions.
            history: of the environments, where they show one.

        Raises:
            ValueError: if there are none, or not one for each learner, one has actions that the agent has not or labels
                instead of an expert's actions, or they do not fit into the buffer beside others.
            DemonstrationError: if they lack what the agent reads.
        """
        assert isinstance(self.action_space, spaces.Discrete)
        if not demonstrations:
            raise ValueError("There are no demonstrations.")
        if len(demonstrations) < self.learners.count:
            raise ValueError(
                f"There are {len(demonstrations)} demonstrations for {self.learners.count} processes: each needs one."
            )
        texts = getattr(self.action_space, "texts", tuple(map(str, range(int(self.action_space.n)))))
        for demonstration in demonstrations:
            if demonstration.labels is not None:
                raise ValueError("These episodes were not played by the expert that labelled them: clone them instead.")
            if any(not 0 <= action < self.action_space.n for action in demonstration.actions):
                raise ValueError(f"A demonstration has an action that is not in {self.action_space}.")
        encoder = self.language_policy.encoder
        demonstrations = readable(demonstrations, encoder, history=history, texts=texts)
        for demonstration in self.learners.part(demonstrations):
            self.replay_buffer.keep_episode(
                encoder(demonstration.read(history, texts, auxiliary=encoder.keys)),
                demonstration.actions,
                demonstration.rewards,
                terminated=demonstration.terminated,
            )

    def pretrain(self, updates: int) -> None:
        """Learn from the demonstrations alone, before the first step of a training (DQfD's first phase).

        The target network follows after as many updates as it does in the training.

        Raises:
            ValueError: if there are no demonstrations.
        """
        if not self.replay_buffer.kept:
            raise ValueError("There are no demonstrations to learn from: add_demonstrations() comes first.")
        if not self._custom_logger and self.num_timesteps == 0:
            self._logger = Logger(folder=None, output_formats=[])  # `learn` makes the real one
        train_freq = cast(TrainFreq, self.train_freq)  # SB3 has made it one by now
        steps = self._steps_of_target
        interval = max(steps * self.gradient_steps // train_freq.frequency, 1)
        with self._telling_when():
            for done in range(0, updates, interval):
                self.train(gradient_steps=min(interval, updates - done), batch_size=self.batch_size)
                self._update_target()

    @property
    @abstractmethod
    def _steps_of_target(self) -> int:
        """How many steps of all environments lie between the target network's updates."""

    @abstractmethod
    def _update_target(self) -> None:
        """Move the target network towards the online network."""

    def _margin_loss(self, q_values: Tensor, batch: Batch) -> Tensor:
        """Return J_E of DQfD, equation 3: by how much demonstrated actions are not better than others by the margin.

        Args:
            q_values: (B, A).
            batch: of B transitions; those that nobody demonstrated count as 0.
        """
        others = q_values + self.margin
        others = others.scatter(1, batch.actions, q_values.gather(1, batch.actions))
        short = others.max(dim=1, keepdim=True).values - q_values.gather(1, batch.actions)
        return (batch.weights * batch.demonstrated * short).mean()
