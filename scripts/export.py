"""`heed export`: share a trained agent as a folder in Hugging Face's layout."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from heed.agents.registry import ALGORITHMS
from heed.evaluation.command_line import tell, told_command
from heed.training.command_line.parsing import parse
from heed.training.errors import ConfigurationError, as_sentence
from heed.training.option_groups import LANGUAGE_AGENTS

if TYPE_CHECKING:
    from heed.evaluation.report.data import EvaluationData
    from heed.training.run_folder import RunFolder

GIFS = 2
"""Recorded episodes that are shown on the model card, at most."""


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Write a trained agent into a folder in Hugging Face's layout, with a model card.

    `heed evaluate OUT` and `heed.agents.load` take it as an agent, `heed train --model OUT` and transformers'
    `from_pretrained` as a language model.
    """

    run_dir: tyro.conf.Positional[Path]
    """The run folder that `heed train` wrote; its newest checkpoint is exported."""
    out: tyro.conf.Positional[Path]
    """Folder to write; it must not be there yet, or be empty."""
    push_to_hub: str | None = None
    """Upload the folder to the Hugging Face hub too, as OWNER/NAME."""
    private: bool = False
    """Of --push-to-hub: make the repository a private one, if it is not there yet."""

    def __post_init__(self) -> None:
        """Refuse what does not go together."""
        if self.private and self.push_to_hub is None:
            raise ConfigurationError("--private is an option of --push-to-hub, which is not given.")


def export_run(config: ExportConfig) -> Path:
    """Write the folder, and upload it if that was asked.

    Returns:
        The folder.

    Raises:
        RunFolderError: if there is no run, or no checkpoint in it.
        CheckpointError: if the checkpoint is damaged.
        ConfigurationError: if `out` is taken, the agent has no language model, or the hub does not take it.
    """
    from rich.console import Console
    from transformers.utils import logging

    from heed.agents import LanguagePolicyAgent, export, load
    from heed.agents.persistence.checkpoint import write_json
    from heed.agents.persistence.export import require_free
    from heed.training.run_folder import RunFolder
    from heed.training.sharing.card import card_of
    from heed.training.sharing.hub import push, require_hub
    from heed.training.sharing.paths import command_without_own_folders, without_own_folders

    console = Console(highlight=False)
    run = RunFolder(config.run_dir)
    trained = run.read_config()
    if trained["agent"] in ALGORITHMS and trained["agent"] not in LANGUAGE_AGENTS:
        raise ConfigurationError(
            f"{run.path} was trained with {trained['agent']}: it has a table, and no language model."
        )
    try:
        require_free(config.out)
    except FileExistsError as error:
        raise ConfigurationError(str(error)) from None
    if config.push_to_hub is not None:
        require_hub(config.push_to_hub)  # told before anything is written
    checkpoint = run.latest_checkpoint()
    agent = load(checkpoint, device="cpu")
    assert isinstance(agent, LanguagePolicyAgent)  # as its configuration said
    shared = without_own_folders(trained)
    evaluation = _evaluation_of(run, agent.num_timesteps)
    gifs = [] if evaluation is None else sorted(run.path.glob("episode-*.gif"))[:GIFS]
    name = _name(config)

    def add_to_agent(home: Path) -> None:
        write_json(home / "config.json", shared)
        for path in (run.curve, run.times):
            if path.is_file():
                shutil.copyfile(path, home / path.name)

    def add_to_model(folder: Path) -> None:
        if evaluation is not None:
            command = command_without_own_folders(evaluation.get("command", ""))
            write_json(folder / run.evaluation.name, {**evaluation, "command": command})
            for path in (run.episodes, *gifs):
                if path.is_file():
                    shutil.copyfile(path, folder / path.name)
        card = card_of(agent, shared, evaluation, name=name, repository=config.push_to_hub, gifs=[g.name for g in gifs])
        card.save(folder / "README.md")

    logging.disable_progress_bar()  # of the shards that transformers writes
    export(agent, config.out, add_to_model=add_to_model, add_to_agent=add_to_agent)
    console.print(f"{config.out} holds the agent after {agent.num_timesteps} steps.", markup=False)
    if evaluation is None:
        tell(
            console,
            "Its model card has no evaluation: there is none of these steps. Run "
            f"`{told_command('heed', 'evaluate', run.path)}` first, and export anew.",
        )
    if config.push_to_hub is not None:
        console.print(f"Uploaded: {push(config.out, config.push_to_hub, private=config.private)}")
    return config.out


def _name(config: ExportConfig) -> str:
    """Return what the model card calls the agent."""
    return config.out.resolve().name if config.push_to_hub is None else config.push_to_hub.rpartition("/")[2]


def _evaluation_of(run: RunFolder, steps: int) -> EvaluationData | None:
    """Return the run's evaluation if it is one of the agent after so many steps."""
    from heed.evaluation.report.evaluation_file import read_evaluation

    if not run.evaluation.is_file():
        return None
    evaluation = read_evaluation(run.evaluation)
    return evaluation if evaluation.get("trained_steps") == steps else None


def main(arguments: list[str] | None = None) -> None:
    """Run `heed export` with the command line's arguments."""
    with as_sentence():
        export_run(parse(ExportConfig, arguments, command="heed export"))


if __name__ == "__main__":
    main()
