"""Check that an environment keeps the language contract: `heed check-env ID`."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from heed.training.command_line.named_values import environment_arguments
from heed.training.command_line.parsing import parse
from heed.training.errors import ConfigurationError, as_sentence, require_at_least
from heed.training.model_file import use_model_file

if TYPE_CHECKING:
    from rich.table import Table

    from heed.envs.checks import Check, Reader
    from heed.envs.checks.playing import Choose


@dataclass(frozen=True, kw_only=True)
class CheckEnvConfig:
    """Check that an environment keeps the language contract, and say how to fix what does not."""

    env: tyro.conf.Positional[str]
    """The environment's id, package.module:Id-v0 or ./file.py:Id-v0 to import what registers it, or a mixture:
    LEVEL+LEVEL."""
    env_kwargs: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """name=value for an argument of the environment's constructor, such as room_size=6; as often as you like."""
    episodes: int = 5
    """How many episodes to play with random actions, at least 2."""
    seed: int = 0
    """Seed of the first episode; the others follow."""
    reward_episodes: int = 20
    """Play up to so many, to see whether the reward can be reached."""
    max_episode_steps: int = 20_000
    """An episode that has not ended after so many steps counts as one that never ends."""
    policy: Path | None = None
    """The run folder of a trained agent that plays these; without it, actions are drawn."""
    model: str = "heed-words"
    """The language model whose tokenizer reads the words: heed-words, a folder, or a hub id."""
    max_prompt_tokens: int = 256
    """The longest prompt that is to be read whole."""

    def require_sensible(self) -> None:
        """Refuse numbers that cannot be.

        Raises:
            ConfigurationError: in a sentence that says which.
        """
        if self.episodes < 2:
            raise ConfigurationError(f"--episodes must be at least 2, to compare them, but is {self.episodes}.")
        require_at_least(self, {"seed": 0, "reward_episodes": 1, "max_episode_steps": 1, "max_prompt_tokens": 8})


def run(config: CheckEnvConfig) -> bool:
    """Print the checks and a sample of what the agent reads.

    Args:
        config: what to check.

    Returns:
        Whether the environment passed all checks.

    Raises:
        UnknownEnvironmentError, EnvironmentArgumentError: if no environment has this id, or it does not take the
            arguments.
        LanguageModelError: if there is no such language model.
        RunFolderError, CheckpointError: if the policy is a run without a usable checkpoint.
        OtherActionsError: if it acts otherwise.
    """
    from rich.console import Console

    from heed.envs.arguments import require_arguments  # here, so that `--help` need not wait for it
    from heed.envs.checks import check_env

    arguments = environment_arguments(config.env_kwargs)
    require_arguments(config.env, arguments)
    choose, around = (None, {}) if config.policy is None else _trained(config.policy, config)
    checks = check_env(
        _made(config.env, {**arguments, **around}),
        episodes=config.episodes,
        seed=config.seed,
        reward_episodes=config.reward_episodes,
        max_steps=config.max_episode_steps,
        policy=choose,
        reader=reader_of(config.model, config.max_prompt_tokens),
    )
    console = Console()
    console.print(_table(config.env, checks))
    passed = all(check.passed for check in checks)
    if passed:
        console.print(_sample(config))
    return passed


def _table(env_id: str, checks: Sequence[Check]) -> Table:
    from rich.table import Table
    from rich.text import Text

    marks = {"pass": ("passed", "green"), "note": ("note", "yellow"), "fail": ("failed", "bold red")}
    table = Table(title=Text(f"The language contract and {env_id}"), title_justify="left")
    for heading in ("", "check", "what was seen"):
        table.add_column(heading, overflow="fold")
    for check in checks:
        # Text, because the environment's words may hold square brackets, which rich would read as markup.
        table.add_row(Text(*marks[check.outcome]), check.name, Text(check.detail))
        for title, words in (("Fix", check.fix), ("Note", check.note)):
            if words:
                table.add_row("", "", Text(f"{title}: {words}", "yellow"))
    return table


def _made(env_id: str, arguments: dict[str, Any]) -> Any:
    """Return the id, or what makes its environments with arguments, and with what an agent was trained with."""
    from heed.envs.make import make_env

    return functools.partial(make_env, env_id, **arguments) if arguments else env_id


def reader_of(model: str, max_prompt_tokens: int) -> Reader:
    """Return how a language model reads; it is loaded when it first does.

    Raises:
        LanguageModelError: later, if there is no such language model.
    """
    from heed.envs.checks import Reader
    from heed.policies.modalities.modality import unread_keys

    @functools.cache
    def loaded() -> Any:
        from heed.policies.models.loading import load_language_model

        return load_language_model(model)

    @functools.cache
    def encoder() -> Any:
        return loaded().encoder()

    def prompt_tokens(instruction: str, observation: str) -> Sequence[int]:
        tokens: list[int] = encoder().tokens(loaded().template.format(instruction=instruction, observation=observation))
        return tokens

    return Reader(
        name=model,
        action_tokens=lambda text: loaded().action_tokens((text,))[0],
        text=lambda tokens: encoder().decode(tokens),
        prompt_tokens=prompt_tokens,
        max_prompt_tokens=max_prompt_tokens,
        unread_keys=unread_keys,
    )


def _trained(folder: Path, config: CheckEnvConfig) -> tuple[Choose, dict[str, Any]]:
    """Return the agent of a run as a policy, with what stood around its environments: a history, an action more."""
    from heed.agents import load
    from heed.envs.demonstrations.demonstrate import action_generator
    from heed.envs.make import make_env
    from heed.evaluation.playing import require_same_actions, sampled
    from heed.training.run_folder import RunFolder
    from heed.training.wrappers import wrappers_of_run

    run_folder = RunFolder(folder)
    trained = run_folder.read_config()
    around: dict[str, Any] = {"history": trained.get("history", 0), "wrappers": wrappers_of_run(trained)}
    agent = load(run_folder.told_checkpoint())
    env = make_env(config.env, wrappers=around["wrappers"], **environment_arguments(config.env_kwargs))
    require_same_actions(agent, env)
    env.close()
    choices = sampled(agent)
    generator = action_generator(config.seed)

    def choose(observation: Mapping[str, Any]) -> Any:
        words = {key: [value] for key, value in observation.items()}
        return choices(words, [generator])[0]

    return choose, {name: value for name, value in around.items() if value}


def _sample(config: CheckEnvConfig) -> Table:
    """Return what the agent reads at the beginning of the first episode."""
    from rich.table import Table
    from rich.text import Text

    from heed.envs.contract import action_texts_of
    from heed.envs.make import make_env

    env = make_env(config.env, **environment_arguments(config.env_kwargs))
    observation, _ = env.reset(seed=config.seed)
    texts = observation.get("actions") or action_texts_of(env)
    env.close()
    table = Table(title="What the agent reads", title_justify="left", show_header=False)
    table.add_row("instruction", Text(observation["instruction"]))
    table.add_row("observation", Text(observation["observation"]))
    table.add_row("action texts", Text(", ".join(texts) if texts else f"none: {env.action_space}"))
    return table


def main(arguments: list[str] | None = None) -> None:
    """Check an environment from the command line; exit with status 1 if a check failed.

    Args:
        arguments: those of the command line; None takes the program's own.
    """
    with as_sentence():
        config = parse(CheckEnvConfig, arguments, command="heed check-env")
        config.require_sensible()
        use_model_file(config.model)
        if not run(config):
            raise SystemExit(1)


if __name__ == "__main__":
    main()
