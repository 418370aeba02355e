"""Check which part of an agent is broken: `heed check-agent --agent ppo --model MODEL --head score`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tyro

from heed.training.command_line.parsing import parse
from heed.training.errors import ConfigurationError, as_sentence
from heed.training.model_file import use_model_file
from heed.training.option_groups import (
    LANGUAGE_AGENTS,
    REPLAY_LEARNERS,
    EnvironmentOptions,
    RunOptions,
    TrackingOptions,
)
from heed.training.options import TrainConfig

if TYPE_CHECKING:
    from rich.table import Table

    from heed.agents.probing import Result
    from heed.agents.probing.check import MakeAgent

_TAKEN = {"agent", "steps", "n_envs", "seed", "gamma", "learning_rate", "learning_rate_schedule", "set", "device"}
"""The options of every training that this command takes; the others are about its environment and its folder."""


@dataclass(frozen=True, kw_only=True)
class CheckAgentConfig(TrainConfig):
    """Train an agent on the smallest environments, and say which part of it is broken first.

    It takes the options of `heed train` that are about the agent and its language model.
    """

    probes: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Put it to this probe alone, such as memory; as often as you like (default: to all)."""
    json: bool = False
    """Print the results as JSON instead of a table."""

    def __post_init__(self) -> None:
        """Refuse what cannot be, or is no option here."""
        super().__post_init__()
        for group in (RunOptions, EnvironmentOptions, TrackingOptions):
            for field in dataclasses.fields(group):
                if field.name not in _TAKEN and getattr(self, field.name) != field.default:
                    raise ConfigurationError(
                        f"--{field.name.replace('_', '-')} is no option of check-agent, which brings its own "
                        "environments and writes no run."
                    )
        if self.clones or self.demonstrations is not None:
            raise ConfigurationError("The probes have no demonstrations to learn from: leave these options out.")


def run(config: CheckAgentConfig) -> list[Result]:
    """Put the agent to the probes, and print what came of them.

    Raises:
        ConfigurationError: if options do not go together, or there is no such probe.
        LanguageModelError: if there is no such language model.
    """
    from rich.console import Console

    from heed.agents.probing import check_agent
    from heed.envs.probes import PROBES

    unknown = [name for name in config.probes if name not in PROBES]
    if unknown:
        raise ConfigurationError(f"There is no probe {unknown[0]!r}: there are {', '.join(PROBES)}.")
    filled = _filled(config)
    assert filled.steps is not None
    assert filled.n_envs is not None
    checks = check_agent(
        _maker(filled),
        probes=config.probes or tuple(PROBES),
        steps=filled.steps,
        n_envs=filled.n_envs,
        group_size=filled.group_size or 1,
        seed=config.seed,
    )
    results: list[Result] = []
    with Console(stderr=True).status("probing") as status:
        for result in checks:
            results.append(result)
            status.update(f"probing: {result.probe} {result.outcome}")
    if config.json:
        print(json.dumps([result.as_json() for result in results], indent=2))
    else:
        console = Console(highlight=False)
        console.print(_table(config, results))
        console.print(_verdict(results), markup=False)
    return results


def _filled(config: CheckAgentConfig) -> TrainConfig:
    """Return the options of a training on the probes, where they are not given."""
    from heed.agents.probing import GAMMA, N_ENVS, STEPS

    settings = config.algorithm.probing
    defaults = {"steps": STEPS, "n_envs": N_ENVS, "gamma": GAMMA, "rollout_steps": settings.get("n_steps")}
    defaults |= {name: settings.get(name) for name in ("batch_size", "group_size")}
    if config.agent in REPLAY_LEARNERS:
        defaults["hindsight"] = 0  # the probes do not tell what an episode fulfilled
    if config.batch_tokens is not None:
        del defaults["batch_size"]
    given = {field.name: getattr(config, field.name) for field in dataclasses.fields(TrainConfig)}
    missing = {name: value for name, value in defaults.items() if given[name] is None}
    return TrainConfig(**{**given, **missing}).resolved()


def _maker(config: TrainConfig) -> MakeAgent:
    """Return what makes the agent, whose language model is loaded once.

    Raises:
        LanguageModelError: if there is no such language model.
    """
    from heed.agents import AGENTS
    from heed.policies.backbones.precision import weights_dtype
    from heed.policies.models.loading import load_language_model
    from heed.training.agent_arguments import agent_arguments

    arguments: dict[str, Any] = {**config.algorithm.probing, **agent_arguments(config)}
    if config.agent in LANGUAGE_AGENTS:
        dtype = weights_dtype(config.weights)
        model = load_language_model(config.model, dtype=dtype, quantize=config.quantize)
        arguments["policy_kwargs"] = {**arguments["policy_kwargs"], "model": model}

    def make(env: Any) -> Any:
        return AGENTS[config.agent](env=env, seed=config.seed, device=config.device, **arguments)

    return make


def _table(config: CheckAgentConfig, results: Sequence[Result]) -> Table:
    from rich.table import Table
    from rich.text import Text

    marks = {"passed": "green", "skipped": "yellow", "failed": "bold red"}
    with_model = f" with {config.model}, {config.head} head" if config.agent in LANGUAGE_AGENTS else ""
    table = Table(title=Text(f"{config.agent}{with_model}"), title_justify="left")
    for heading in ("", "probe", "what was seen"):
        table.add_column(heading, overflow="fold")
    for heading in ("steps", "seconds"):
        table.add_column(heading, justify="right")
    for result in results:
        outcome = Text(result.outcome, marks[result.outcome])
        # Text, because what is shown may hold square brackets, which rich would read as markup.
        table.add_row(outcome, result.probe, Text(result.detail), str(result.steps), f"{result.seconds:.1f}")
    return table


def _verdict(results: Sequence[Result]) -> str:
    for result in results:
        if result.outcome == "failed":
            return f"The first that fails is {result.probe!r}. {result.detail}"
    passed = sum(result.outcome == "passed" for result in results)
    return f"{passed} of {len(results)} probes passed, and none failed."


def main(arguments: list[str] | None = None) -> None:
    """Check an agent from the command line; exit with status 1 if it failed a probe.

    Args:
        arguments: those of the command line; None takes the program's own.
    """
    with as_sentence():
        config = parse(CheckAgentConfig, arguments, command="heed check-agent")
        use_model_file(config.model)
        if any(result.outcome == "failed" for result in run(config)):
            raise SystemExit(1)


if __name__ == "__main__":
    main()
