"""`heed evaluate`: does a trained agent do what it is told?"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from heed.scripts.errors import ConfigurationError, as_sentence, require_at_least

if TYPE_CHECKING:
    from heed.agents.agent import LanguageAgent
    from heed.agents.evaluation import Episode

RECORDED_EPISODES = 2
LEVEL_FIGURES = ("sampled", "greedy", "random", "blank", "swapped")
"""What is told of each level of a mixture."""


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Play held-out episodes with a trained agent, and write evaluation.json and report.html."""

    run_dir: tyro.conf.Positional[Path]
    """The run folder that `heed train` wrote."""
    env: str | None = None
    """Environment, where it is to be another than the one of the training; it must have the same actions."""
    episodes: int = 500
    """Held-out episodes for each figure."""
    seed: int = 0
    """Seed of the episodes; they are others than those of any training."""
    out: Path | None = None
    """Folder for the results (default: the run folder)."""
    n_envs: int = 64
    """Episodes side by side; the figures do not depend on it."""

    def __post_init__(self) -> None:
        """Refuse numbers that cannot be."""
        require_at_least(self, {"episodes": 1, "n_envs": 1, "seed": 0})


def evaluate_agent(
    agent: LanguageAgent,
    env_id: str,
    *,
    episodes: int,
    seed: int,
    history: int = 0,
    n_envs: int = 64,
    on_part: Callable[[str], None] = lambda part: None,
) -> dict[str, Any]:
    """Return the content of `evaluation.json`.

    Args:
        agent: a trained agent.
        env_id: the environment; it must have the agent's actions.
        episodes: held-out episodes for each figure.
        seed: of the episodes.
        history: as in `heed.envs.make.make_env`; the one that the agent was trained with.
        n_envs: episodes side by side.
        on_part: is told what is played next.

    Raises:
        ConfigurationError: if the environment has other actions than the agent.
    """
    from heed.agents.evaluation import Summary, greedy, held_out_seeds, run_episodes, sampled, uniform
    from heed.envs.make import make_env

    require_same_actions(agent, env_id)
    seeds = held_out_seeds(seed, episodes)

    def play(part: str, choose: Any, **options: Any) -> list[Episode]:
        on_part(part)
        factory = functools.partial(make_env, env_id, history=history, **options)
        return run_episodes(factory, choose, seeds, n_envs=n_envs)

    played = {
        "sampled": play("sampled", sampled(agent)),
        "greedy": play("greedy", greedy(agent)),
        "random": play("random", uniform(agent.action_space)),
        "blank": play("instruction blank", sampled(agent), instructions="blank"),
    }
    if _can_be_swapped(env_id):
        played["swapped"] = play("instruction swapped", sampled(agent), instructions="swapped")
    summaries = {name: Summary.of(episodes_of_one) for name, episodes_of_one in played.items()}
    shown = {"true": summaries["sampled"], "blank": summaries["blank"], "swapped": summaries.get("swapped")}
    return {
        "env": env_id,
        "episodes": episodes,
        "seed": seed,
        **{name: asdict(summaries[name]) for name in ("sampled", "greedy", "random")},
        "instruction": {name: summary and summary.success_rate for name, summary in shown.items()},
        "instruction_ci95": {name: summary and list(summary.ci95) for name, summary in shown.items()},
        "templates": _by_template(played["sampled"]),
        "levels": _by_level(played),
    }


def _by_level(played: Mapping[str, Sequence[Episode]]) -> list[dict[str, Any]]:
    """Return, for each level of a mixture, success and its interval in all that was played; of one level, nothing."""
    from heed.agents.evaluation import Summary

    rows = []
    for level in sorted({episode.level for episode in played["sampled"]} - {""}):
        # The same seeds are played each time, and a seed draws the same level.
        members = {name: [one for one in episodes if one.level == level] for name, episodes in played.items()}
        summaries = {name: Summary.of(episodes) for name, episodes in members.items()}
        rows.append(
            {
                "level": level,
                "episodes": len(members["sampled"]),
                **{
                    name: {"success_rate": summary.success_rate, "ci95": list(summary.ci95)}
                    for name, summary in summaries.items()
                },
            }
        )
    return rows


def _by_template(episodes: Sequence[Episode]) -> list[dict[str, Any]]:
    """Return success by the instruction's verb phrase: its words up to the first article."""
    from heed.agents.evaluation import Summary

    groups: dict[str, list[Episode]] = {}
    for episode in episodes:
        words = episode.instruction.split()
        end = next((index for index, word in enumerate(words) if word in ("the", "a", "an")), len(words))
        groups.setdefault(" ".join(words[:end]) or episode.instruction, []).append(episode)
    rows = []
    for template, members in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])):
        summary = Summary.of(members)
        rows.append(
            {
                "template": template,
                "episodes": len(members),
                "success_rate": summary.success_rate,
                "ci95": list(summary.ci95),
                "mean_length": summary.mean_length,
            }
        )
    return rows


def require_same_actions(agent: LanguageAgent, env_id: str) -> None:
    """Refuse an environment that has other actions than the agent.

    Raises:
        ConfigurationError: in a sentence that names both.
    """
    from heed.envs.contract import action_texts_of
    from heed.envs.make import make_env

    env = make_env(env_id)
    theirs, ours = action_texts_of(env), getattr(agent.action_space, "texts", None)
    same = theirs == ours if ours is not None else env.action_space == agent.action_space
    env.close()
    if not same:
        raise ConfigurationError(
            f"The agent's actions are {list(ours) if ours else agent.action_space}, but those of {env_id} are "
            f"{list(theirs) if theirs else env.action_space}: evaluate it where it has the actions that it was "
            "trained with."
        )


def _can_be_swapped(env_id: str) -> bool:
    from heed.envs.make import instruction_pool

    return len(instruction_pool(env_id)) > 1


def evaluate_run(config: EvaluateConfig) -> Path:
    """Evaluate the newest checkpoint of a run, and write `evaluation.json`, `report.html` and two GIFs.

    Returns:
        The report.

    Raises:
        RunFolderError: if there is no run, or no checkpoint in it.
        CheckpointError: if the checkpoint is damaged.
        UnknownEnvironmentError, ContractError, ConfigurationError: if `env` cannot be used.
    """
    import numpy as np
    from rich.console import Console

    from heed.agents import load
    from heed.agents.checkpoint import write_json
    from heed.agents.evaluation import held_out_seeds
    from heed.scripts.recording import make_recordable_env, record_episode
    from heed.scripts.report import write_report
    from heed.scripts.run_folder import RunFolder

    console = Console(highlight=False)
    run = RunFolder(config.run_dir)
    trained = run.read_config()
    out = config.out or run.path
    if out.exists() and not out.is_dir():  # told before minutes of playing
        raise ConfigurationError(f"--out {out} is a file, but must be a folder: give another.")
    agent = load(run.latest_checkpoint())
    env_id = config.env or trained["env"]
    history = trained.get("history", 0)  # a run of an earlier version has none
    with console.status("evaluating") as status:
        evaluation = evaluate_agent(
            agent,
            env_id,
            episodes=config.episodes,
            seed=config.seed,
            history=history,
            n_envs=config.n_envs,
            on_part=lambda part: status.update(f"evaluating: {part}, {config.episodes} episodes"),
        )
        # Of the agent, not of the configuration: a training may have stopped early.
        evaluation["trained_steps"] = agent.num_timesteps
        status.update("recording two episodes")
        env = make_recordable_env(env_id, history=history)
        recordings = [
            record_episode(agent, env, seed=seed, generator=np.random.default_rng(seed))
            for seed in held_out_seeds(config.seed, RECORDED_EPISODES)
        ]
        env.close()
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "evaluation.json", evaluation)
    gifs = [recording.write(out / f"episode-{number}.gif") for number, recording in enumerate(recordings, 1)]
    report = write_report(out, evaluation=evaluation, curve=run.read_curve(), config=trained, recordings=recordings)
    console.print(_table(evaluation))
    if evaluation["levels"]:
        console.print(_table_of_levels(evaluation))
    for path in (out / "evaluation.json", report, *gifs):
        console.print(f"  {path}")
    return report


def _table(evaluation: dict[str, Any]) -> Any:
    from rich.table import Table

    table = Table(title=f"{evaluation['env']}, {evaluation['episodes']} held-out episodes", title_justify="left")
    for column in ("", "success", "95 % interval", "return", "length"):
        table.add_column(column, justify="left" if not column else "right")
    for name in ("sampled", "greedy", "random"):
        row = evaluation[name]
        low, high = row["ci95"]
        table.add_row(
            name,
            f"{row['success_rate']:.3f}",
            f"{low:.3f} to {high:.3f}",
            f"{row['mean_return']:.2f}",
            f"{row['mean_length']:.1f}",
        )
    for name in ("blank", "swapped"):
        rate, interval = evaluation["instruction"][name], evaluation["instruction_ci95"][name]
        if rate is None:
            table.add_row(f"instruction {name}", "-", "the level has only one instruction", "", "")
        else:
            table.add_row(f"instruction {name}", f"{rate:.3f}", f"{interval[0]:.3f} to {interval[1]:.3f}", "", "")
    return table


def _table_of_levels(evaluation: dict[str, Any]) -> Any:
    from rich.table import Table

    table = Table(title="Success by level", title_justify="left")
    for column in ("", "episodes", *LEVEL_FIGURES):
        table.add_column(column, justify="left" if not column else "right", overflow="fold")
    for row in evaluation["levels"]:
        rates = [f"{row[name]['success_rate']:.3f}" if name in row else "-" for name in LEVEL_FIGURES]
        table.add_row(row["level"], str(row["episodes"]), *rates)
    return table


def main(arguments: list[str] | None = None) -> None:
    """Run `heed evaluate` with the command line's arguments."""
    with as_sentence():
        evaluate_run(tyro.cli(EvaluateConfig, args=arguments, prog="heed evaluate"))


if __name__ == "__main__":
    main()
