"""From a training's options to the writers of its metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stable_baselines3.common.logger import KVWriter

from heed.agents.agent import LanguageAgent
from heed.policies.networks.prompt_network import PromptNetwork
from heed.training.options import TrainConfig
from heed.training.run_folder import CurveWriter, RunFolder
from heed.training.tracking.csv_file import CsvWriter
from heed.training.tracking.samples import unnoticed
from heed.training.tracking.system import SystemMetrics
from heed.training.tracking.tensorboard import TensorBoardWriter
from heed.training.tracking.tracking import Tracking
from heed.training.tracking.weights_and_biases import WandbWriter


def open_tracking(
    config: TrainConfig, run: RunFolder, agent: LanguageAgent, *, on_point: Callable[[int], None]
) -> Tracking:
    """Open every tracker that the options name, where the training begins or goes on.

    Args:
        config: of the training.
        run: its folder, whose curves are gone on with.
        agent: that trains.
        on_point: is told the steps of each point.

    Raises:
        ConfigurationError: if Weights & Biases cannot be used.
        OSError: if a file cannot be written.
    """
    steps = agent.num_timesteps
    writers: list[KVWriter] = []
    if config.wandb:  # the one that can fail comes first, when there is nothing to be closed yet
        with unnoticed(agent):  # a library may draw from the global generators
            writers.append(WandbWriter(run.path, run.wandb, config.as_json()))
    writers += [TensorBoardWriter(run.tensorboard, steps=steps), CurveWriter(run.curve, on_point=on_point)]
    if config.csv:
        writers.append(CsvWriter(run.csv, steps=steps))
    return Tracking(writers, SystemMetrics(agent.device, _tokens_read(agent)))


def _tokens_read(agent: LanguageAgent) -> Callable[[], int] | None:
    """Return what counts the tokens that the agent's language models have read; None where it has none."""
    modules: list[Any] = [module for policy in agent._policies() for module in policy.modules()]
    networks = [module for module in modules if isinstance(module, PromptNetwork)]
    return (lambda: sum(network.tokens_read for network in networks)) if networks else None
