"""`heed evaluate`: does a trained agent do what it is told?"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from heed.evaluation.command_line import env_for_any_folder, option_words
from heed.training.command_line.named_values import environment_arguments
from heed.training.command_line.parsing import parse
from heed.training.errors import ConfigurationError, as_sentence, require_at_least
from heed.training.threads import set_threads

if TYPE_CHECKING:
    from heed.agents.agent import LanguageAgent
    from heed.evaluation.playing import Episode, Evaluation
    from heed.evaluation.suites import Suite

RECORDED_EPISODES = 2
"""Episodes in moving pictures."""
SHOWN_UNFINISHED = 200
"""Steps that are shown of an episode which did not end."""
ZERO_SHOT = "zero-shot"
"""The name of a language model that nobody trained."""
DEFAULT_EPISODES = 500
AXES = ("true", "blank", "swapped")
"""What is played where no suite is named."""


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Play held-out episodes with a trained agent; write evaluation.json, episodes.csv, axes.csv and report.html."""

    run_dir: tyro.conf.Positional[Path]
    """The run folder that `heed train` wrote."""
    suite: str | None = None
    """What to play: babyai-core, babyai-generalisation, glam, word-order, smoke, or a YAML file (default: the
    training's environment with the instruction true, blank and swapped)."""
    axis: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Axis in place of the suite's, by its name or as file.py:Name; as often as you like. The true instruction is
    played in any case."""
    env: str | None = None
    """Environment in place of the suite's or of the training's; it must have the same actions."""
    env_kwargs: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """name=value for an argument of the environments' constructors, in place of the training's; as often as you
    like."""
    episodes: int | None = None
    """Held-out episodes for each figure (default: the suite's; without a suite 500)."""
    seed: int | None = None
    """Seed of the episodes; they are others than those of any training (default: the suite's; without a suite 0)."""
    checkpoint: str = "newest"
    """Which checkpoint of the run: newest, best (the one behind which most of the training's episodes succeeded), or a
    number of steps."""
    out: Path | None = None
    """Folder for the results (default: the run folder)."""
    n_envs: int = 64
    """Episodes side by side; the figures do not depend on it."""
    threads: int | None = None
    """Threads that the processor computes with (default: by the model's size, one for heed-words)."""
    max_episode_steps: int | None = None
    """Give an episode up as unfinished after so many steps, which counts as failed: some environments end none
    (default: the training's; without one 5000, or the environment's own limit where that is more)."""
    references: bool = True
    """Let the random policy and the environment's expert play too."""
    baseline: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Other policies to evaluate too: package.module:name or file.py:name of a function from a language observation to
    an action or its text, or of an object with SB3's `predict`."""
    zero_shot: str | None = None
    """A language model that chooses without training, by the likelihood of the actions' texts: any that --model takes,
    but no encoder."""
    viewed: int = 2
    """Episodes to show step by step, with the words that moved each decision."""

    def __post_init__(self) -> None:
        """Refuse numbers that cannot be."""
        require_at_least(self, {"n_envs": 1, "viewed": 0})
        for name, least in (("episodes", 1), ("seed", 0), ("threads", 1), ("max_episode_steps", 1)):
            if getattr(self, name) is not None:
                require_at_least(self, {name: least})


def evaluate_run(config: EvaluateConfig) -> Path:
    """Evaluate a checkpoint of a run, the newest that is whole unless said otherwise, and write what came of it.

    Returns:
        The report.

    Raises:
        RunFolderError: if there is no run, no such checkpoint in it, or its files are links.
        CheckpointError: if no checkpoint of it can be read.
        ConfigurationError: if an option cannot be used, or nothing could be played at all.
        SuiteError, AxisError: if there is no such suite, or what describes it cannot be.
    """
    from rich.console import Console

    from heed.agents import load
    from heed.agents.persistence.checkpoint import write_json
    from heed.evaluation.playing import evaluate, write_episodes
    from heed.evaluation.report.csv_file import write_axes
    from heed.evaluation.report.numbers import numbers_of
    from heed.evaluation.report.page import write_report
    from heed.evaluation.report.sentences import what_did_not_end
    from heed.evaluation.report.terminal import table_of, table_of_levels, what_is_missing
    from heed.training.run_folder import RunFolder
    from heed.training.wrappers import wrappers_of_run

    console = Console(highlight=False)
    run = RunFolder(config.run_dir)
    trained = run.read_config()
    out = config.out or run.path
    run.require_own_files()
    if out.exists() and not out.is_dir():  # told before minutes of playing
        raise ConfigurationError(f"--out {out} is a file, but must be a folder: give another.")
    suite = suite_of(config, trained)
    arguments = arguments_of(config, trained, suite)
    agent = load(run.told_checkpoint(config.checkpoint))
    set_threads(config.threads, agent)
    history = trained.get("history", 0)  # a run of an earlier version has none
    max_steps = trained.get("max_steps")
    wrappers = wrappers_of_run(trained)
    limit = trained.get("max_episode_steps") if config.max_episode_steps is None else config.max_episode_steps
    with _EpisodeBar(console) as bar:
        evaluation = evaluate(
            agent,
            suite,
            baselines=_baselines(config),
            references=config.references,
            history=history,
            max_steps=max_steps,
            arguments=arguments,
            wrappers=wrappers,
            max_episode_steps=limit,
            timeout=_timeout(trained),
            n_envs=config.n_envs,
            on_plan=bar.plan,
            on_episode=bar.step,
        )
    if not evaluation.episodes:
        reasons = list(dict.fromkeys(missing.reason for missing in evaluation.missing))
        raise ConfigurationError(f"Nothing could be played. {' '.join(reasons)}")
    # Steps are the agent's, not the configuration's: a training may have stopped early.
    numbers = numbers_of(evaluation, command=command_of(config), trained_steps=agent.num_timesteps)
    if agent.num_timesteps and agent.ep_info_buffer is not None and not agent.ep_info_buffer:
        numbers["no_episode_ended"] = True
    if config.env_kwargs:
        numbers["env_kwargs"] = list(config.env_kwargs)
    recordings: list[Any] = []
    traces: list[Any] = []
    try:
        with console.status("recording episodes"):
            _record(
                agent,
                evaluation,
                recordings,
                traces,
                history=history,
                max_steps=max_steps,
                arguments=arguments,
                wrappers=wrappers,
                max_episode_steps=limit,
                viewed=config.viewed,
            )
    except Exception as error:  # whatever an environment raises: what was played before is not lost with it
        console.print(f"Not all episodes could be recorded: {type(error).__name__}: {error}", markup=False)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "evaluation.json", numbers)
    write_episodes(out / "episodes.csv", evaluation.episodes)
    write_axes(out / "axes.csv", numbers)
    gifs = [recording.write(out / f"episode-{number}.gif") for number, recording in enumerate(recordings, 1)]
    report = write_report(
        out,
        evaluation=numbers,
        curve=run.read_curve(),
        config=trained,
        recordings=recordings,
        traces=traces,
        lost=run.read_lost_episodes(),
    )
    for environment in numbers["environments"]:
        console.print(table_of(environment))
        if environment["levels"]:
            console.print(table_of_levels(environment))
    for line in (*what_is_missing(numbers), *what_did_not_end(numbers)):
        console.print(line, markup=False)
    for path in (out / "evaluation.json", out / "episodes.csv", out / "axes.csv", report, *gifs):
        console.print(f"  {path}", markup=False)
    return report


def _timeout(trained: dict[str, Any]) -> float | None:
    """Return the seconds that a step or a reset may take: as in the training; None for any."""
    seconds = [trained.get(name, 60.0) for name in ("step_timeout", "reset_timeout")]
    return None if None in seconds else max(seconds)


def suite_of(config: EvaluateConfig, trained: dict[str, Any]) -> Suite:
    """Return what is to be played.

    Args:
        config: the command's options.
        trained: the run's configuration.

    Raises:
        SuiteError, AxisError: if there is no such suite, or what describes it cannot be.
    """
    from heed.evaluation.axes import axis
    from heed.evaluation.suites import Suite, load_suite

    held_out = tuple(trained.get("hold_out") or ())
    if config.suite is not None:
        suite = load_suite(config.suite)
    else:
        combinations = (axis("unseen-combinations", phrases=held_out),) if held_out else ()
        suite = Suite(
            name="instructions",
            environments=(trained["env"],),
            axes=(*(axis(name) for name in AXES), *combinations),
            episodes=DEFAULT_EPISODES,
        )
    changes: dict[str, Any] = {name: getattr(config, name) for name in ("episodes", "seed")}
    if config.axis:
        changes["axes"] = tuple(axis(name) for name in dict.fromkeys(("true", *config.axis)))
    if config.env is not None:
        changes["environments"] = (env_for_any_folder(config.env),)
    suite = dataclasses.replace(suite, **{name: value for name, value in changes.items() if value is not None})
    return suite.with_phrases(held_out)


def arguments_of(config: EvaluateConfig, trained: dict[str, Any], suite: Suite) -> dict[str, dict[str, Any]]:
    """Return the arguments with which each environment is made: where it is the training's, the training's too.

    Raises:
        EnvironmentArgumentError: if one that the command names is none of the environment's.
    """
    from heed.envs.arguments import require_arguments

    given = environment_arguments(config.env_kwargs)
    found = {}
    for env_id in suite.environments:
        own = environment_arguments(trained.get("env_kwargs", ())) if env_id == trained["env"] else {}
        found[env_id] = {**own, **given}
        if given:
            require_arguments(env_id, found[env_id])
    return found


def _baselines(config: EvaluateConfig) -> dict[str, Any]:
    """Return who else plays, by name.

    Raises:
        ConfigurationError: if one cannot be found.
    """
    found = {path.rpartition(":")[2]: _imported(path) for path in config.baseline}
    if config.zero_shot is not None:
        from heed.policies import load_language_model
        from heed.policies.models.language_model import LanguageModelError
        from heed.training.model_file import use_model_file

        use_model_file(config.zero_shot)
        try:
            found[ZERO_SHOT] = load_language_model(config.zero_shot)
        except LanguageModelError as error:
            raise ConfigurationError(f"--zero-shot {config.zero_shot} cannot be loaded: {error}") from None
        if not found[ZERO_SHOT].backbone.gives_likelihoods:
            raise ConfigurationError(
                f"--zero-shot {config.zero_shot} is an encoder: it gives texts no likelihood, so it cannot choose. "
                "Give a causal language model, such as smollm2."
            )
    return found


def _imported(path: str) -> Any:
    from heed.envs.environment_file import EnvironmentFileError, from_file, names_file

    module, _, name = path.rpartition(":")
    try:
        return from_file(path) if names_file(path) else getattr(importlib.import_module(module), name)
    except (EnvironmentFileError, ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(
            f"--baseline {path} cannot be found ({error}): give package.module:name or file.py:name."
        ) from None


def _record(
    agent: LanguageAgent,
    evaluation: Evaluation,
    recordings: list[Any],
    traces: list[Any],
    *,
    history: int,
    max_steps: int | None,
    arguments: dict[str, dict[str, Any]],
    wrappers: tuple[Any, ...],
    max_episode_steps: int | None,
    viewed: int,
) -> None:
    """Add moving pictures of the first episodes, and episodes step by step: failures first, if there are any.

    Raises:
        Exception: whatever an environment raises; what was recorded until then is there.
    """
    from heed.envs.demonstrations.demonstrate import action_generator
    from heed.envs.make import make_env
    from heed.evaluation.explanation.recording import make_recordable_env, record_episode
    from heed.evaluation.explanation.tracing import trace_episode

    sampled = [one for one in evaluation.episodes if (one.axis, one.policy) == ("true", "sampled")]
    if not sampled:
        return
    first = [one for one in sampled if one.env == sampled[0].env]
    make = functools.partial(make_env, max_steps=max_steps, wrappers=wrappers, **arguments[first[0].env])
    env = make_recordable_env(first[0].env, history=history, make=make)

    def shown(one: Episode) -> dict[str, Any]:
        """Return how the same episode is played again: where it does not end, it is not shown to its limit."""
        most = max_episode_steps if one.finished else min(one.length, SHOWN_UNFINISHED)
        return {"seed": one.seed, "generator": action_generator(one.seed), "max_episode_steps": most}

    for one in first[:RECORDED_EPISODES]:
        recordings.append(record_episode(agent, env, **shown(one)))
    failures = [one for one in first if not one.success]
    successes = [one for one in first if one.success]
    # As many of each as there are; what went wrong teaches more.
    chosen = [*failures[: max(viewed // 2, viewed - len(successes))], *successes][:viewed]
    for one in chosen:
        traces.append(trace_episode(agent, env, **shown(one)))
    env.close()


def command_of(config: EvaluateConfig) -> str:
    """Return the command line of an evaluation."""
    words = ["heed", "evaluate", str(config.run_dir)]
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name == "run_dir" or value == field.default:
            continue
        words += option_words(field.name, value)
    return shlex.join(words)


class _EpisodeBar:
    """A bar over the episodes of an evaluation."""

    def __init__(self, console: Any):
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns: tuple[Any, ...] = (TextColumn("evaluating"), BarColumn(), MofNCompleteColumn())
        columns += (TimeRemainingColumn(), TextColumn("{task.description}"))
        self._progress = Progress(*columns, console=console, transient=True)
        self._task = self._progress.add_task("")

    def __enter__(self) -> _EpisodeBar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def plan(self, episodes: int) -> None:
        """Take notice of how many episodes there are going to be."""
        self._progress.update(self._task, total=episodes)

    def step(self, cell: Any) -> None:
        """Count an episode that is over."""
        described = f"{cell.env}, {cell.axis.label}, {cell.policy.name}"
        self._progress.update(self._task, advance=1, description=described)


def main(arguments: list[str] | None = None) -> None:
    """Run `heed evaluate` with the command line's arguments."""
    with as_sentence():
        evaluate_run(parse(EvaluateConfig, arguments, command="heed evaluate"))


if __name__ == "__main__":
    main()
