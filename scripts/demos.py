"""`heed demos`: record demonstrations, episodes that an expert plays, for `heed train --demonstrations`."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from heed.training.command_line.named_values import environment_arguments
from heed.training.command_line.parsing import parse
from heed.training.errors import ConfigurationError, as_sentence, require_at_least
from heed.training.threads import set_threads

if TYPE_CHECKING:
    from rich.console import Console

    from heed.envs.demonstrations.demonstrate import Outcome
    from heed.envs.demonstrations.demonstrations import Demonstration

BOT, PERSON = "bot", "person"


@dataclass(frozen=True, kw_only=True)
class DemosConfig:
    """Record demonstrations: episodes that an expert plays, for `heed train --demonstrations`."""

    env: str = "BabyAI-GoToLocal-v0"
    """Environment: an id registered with Gymnasium, package.module:Id-v0, or ./file.py:Id-v0."""
    env_kwargs: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """name=value for an argument of the environment's constructor, such as room_size=6; as often as you like."""
    expert: str = BOT
    """Who plays: bot (the environment's own expert, which BabyAI's levels have), person (you, at the keyboard), or the
    run folder of a trained agent."""
    episodes: int = 1000
    """Episodes to play. Those that fail, that do not end, or that the expert gives up, are left out."""
    out: Path
    """File to write: NAME.jsonl, or NAME.jsonl.gz to have it gzipped; or minari:NAME-v0 or minari:./folder for a
    dataset of Minari (needs pip install 'heed[minari]')."""
    seed: int = 0
    """Seed of the episodes; they are others than those of any training or evaluation."""
    hold_out: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Record no episode whose instruction names this phrase, such as "purple key"; may be given several times. A
    training with --hold-out leaves such episodes out in any case."""
    greedy: bool = False
    """Let a trained agent take its most probable action instead of drawing one."""
    keep_failures: bool = False
    """Keep the episodes that failed as well."""
    n_envs: int = 32
    """Episodes side by side, where a trained agent plays."""
    threads: int | None = None
    """Threads that the processor computes with, where a trained agent plays (default: by the model's size)."""
    max_episode_steps: int | None = None
    """Give an episode up after so many steps, and leave it out: some environments end none (default: 5000, or the
    environment's own limit where that is more)."""

    def __post_init__(self) -> None:
        """Refuse numbers that cannot be."""
        require_at_least(self, {"episodes": 1, "n_envs": 1, "seed": 0})
        if self.threads is not None:
            require_at_least(self, {"threads": 1})
        if self.max_episode_steps is not None:
            require_at_least(self, {"max_episode_steps": 1})
        if self.greedy and self.expert in (BOT, PERSON):
            raise ConfigurationError(f"--greedy is for trained agents, not for --expert {self.expert}.")
        if self.n_envs != DemosConfig.n_envs and self.expert in (BOT, PERSON):
            raise ConfigurationError(f"--n-envs is for trained agents: --expert {self.expert} plays alone.")


class QuitError(Exception):
    """The person at the keyboard has had enough."""


def record(config: DemosConfig) -> Path:
    """Record demonstrations and write them; Ctrl-C, or a person who quits, keeps those that are whole.

    Returns:
        The file.

    Raises:
        ConfigurationError: if an option cannot be, or nothing was recorded.
        UnknownEnvironmentError, ContractError, DemonstrationError: if the environment cannot be used.
        RunFolderError, CheckpointError: if the expert is a run without a usable checkpoint.
    """
    from rich.console import Console

    from heed.envs.arguments import require_arguments
    from heed.envs.contract import action_texts_of
    from heed.envs.demonstrations.demonstrations import Demonstrations, demonstrations_exist, write_demonstrations
    from heed.envs.make import make_env

    if demonstrations_exist(config.out):
        raise ConfigurationError(f"--out {config.out} exists already: give another name, or remove it.")
    console = Console(highlight=False)
    arguments = environment_arguments(config.env_kwargs)
    require_arguments(config.env, arguments)
    env = make_env(config.env, **arguments)
    texts = action_texts_of(env) or ()
    env.close()
    played = _play(config, texts, console)
    outcomes: list[Outcome] = []
    stopped = False
    try:
        if config.expert == PERSON:
            for outcome in played:
                outcomes.append(outcome)
                console.print("Done." if outcome.demonstration.success else "That was not it.")
        else:
            _watch(played, outcomes, config, console)
    except (KeyboardInterrupt, QuitError):
        stopped = True
    outcomes.sort(key=lambda outcome: outcome.number)
    kept = [
        outcome.demonstration
        for outcome in outcomes
        if outcome.given_up is None and (outcome.demonstration.success or config.keep_failures)
    ]
    kept = [plain for one in kept if (plain := _with_the_environments_actions(one, len(texts))) is not None]
    if not kept:
        raise ConfigurationError(f"Nothing was recorded: {_left_out(outcomes, config) or 'no episode was finished'}.")
    write_demonstrations(
        config.out,
        Demonstrations(
            env=config.env, expert=config.expert, seed=config.seed, action_texts=tuple(texts), episodes=tuple(kept)
        ),
    )
    steps = sum(map(len, kept))
    success = sum(episode.success for episode in kept) / len(kept)
    console.print(
        f"{config.out}: {len(kept)} episodes, {steps} steps ({steps / len(kept):.1f} in an episode), success "
        f"{success:.3f}."
    )
    left_out = _left_out(outcomes, config)
    if left_out:
        console.print(f"Left out: {left_out}.")
    if stopped and config.expert != PERSON:
        console.print("Stopped early.")
        raise SystemExit(130)
    return config.out


def _with_the_environments_actions(episode: Demonstration, number: int) -> Demonstration | None:
    """Return an episode without the action to say that it cannot be done, which an agent may have and take.

    Args:
        episode: as it was played.
        number: of the environment's own actions, where they are always the same.

    Returns:
        The episode with the environment's own actions only; None if the agent said so, which here is never true.
    """
    from heed.envs.wrappers.cannot_be_done import CANNOT_BE_DONE

    if episode.admissible is None:
        return episode if all(action < number for action in episode.actions) else None
    chosen = zip(episode.actions, episode.admissible, strict=False)
    if any(texts[action] == CANNOT_BE_DONE for action, texts in chosen):
        return None
    own = tuple(tuple(text for text in texts if text != CANNOT_BE_DONE) for texts in episode.admissible)
    return dataclasses.replace(episode, admissible=own)


def _play(config: DemosConfig, texts: Sequence[str], console: Console) -> Iterator[Outcome]:
    """Return the episodes as they are played by the expert that was asked for."""
    from heed.envs.contract import expert_of
    from heed.envs.demonstrations.demonstrate import demonstrate
    from heed.envs.demonstrations.demonstrations import demonstration_seeds
    from heed.envs.make import make_env

    arguments = environment_arguments(config.env_kwargs)
    factory = functools.partial(make_env, config.env, hold_out=config.hold_out, **arguments)
    seeds = demonstration_seeds(config.seed, config.episodes)
    limit = config.max_episode_steps
    if config.expert == PERSON:
        return demonstrate(factory, seeds, Person(texts, console).choose, n_envs=1, max_episode_steps=limit)
    if config.expert == BOT:
        env = factory()
        if expert_of(env) is None:
            raise ConfigurationError(
                f"{config.env} has no expert of its own: it has no method `expert_action`. BabyAI's levels have one; "
                "of another environment record yourself (--expert person) or a trained agent (--expert RUN_DIR)."
            )
        env.close()
        return demonstrate(factory, seeds, n_envs=1, max_episode_steps=limit)
    from heed.agents import load
    from heed.agents.acting import unreadable
    from heed.evaluation.playing import greedy, require_same_actions, sampled
    from heed.training.run_folder import RunFolder
    from heed.training.wrappers import wrappers_of_run

    run = RunFolder(Path(config.expert))
    if not run.holds_run:
        raise ConfigurationError(f"--expert is bot, person, or a run folder, but {config.expert} holds no run.")
    trained = run.read_config()
    history = trained.get("history", 0)
    factory = functools.partial(factory, wrappers=wrappers_of_run(trained))
    agent = load(run.told_checkpoint())
    set_threads(config.threads, agent)
    env = factory()
    require_same_actions(agent, env)
    env.close()
    choose = greedy(agent) if config.greedy else sampled(agent)
    return demonstrate(
        factory,
        seeds,
        choose,
        refused=unreadable(agent),
        history=history,
        n_envs=config.n_envs,
        max_episode_steps=limit,
    )


def _watch(played: Iterator[Outcome], outcomes: list[Outcome], config: DemosConfig, console: Console) -> None:
    """Gather outcomes behind a progress bar."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("recording"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task("success -", total=config.episodes)
        successes = 0
        for outcome in played:
            outcomes.append(outcome)
            successes += outcome.given_up is None and outcome.demonstration.success
            progress.update(task, advance=1, description=f"success {successes / len(outcomes):.3f}")


def _left_out(outcomes: Sequence[Outcome], config: DemosConfig) -> str:
    """Say how many episodes are not kept, and why."""
    failed = sum(outcome.given_up is None and not outcome.demonstration.success for outcome in outcomes)
    parts = [f"{failed} that failed (--keep-failures keeps them)"] if failed and not config.keep_failures else []
    given_up = Counter((outcome.given_up, outcome.ended) for outcome in outcomes if outcome.given_up)
    for (reason, ended), count in given_up.most_common():
        what = "that the expert gave up" if ended else "that did not end"
        parts.append(f"{count} {what} ({(reason or '').rstrip('.')})")
    return "; ".join(parts)


class Person:
    """Somebody at the keyboard, who is shown the words that an agent reads.

    Args:
        texts: of the actions, where they are always the same.
        console: where the words are shown.
    """

    def __init__(self, texts: Sequence[str], console: Console):
        self._texts = texts
        self._console = console
        self._episode: object = None

    def choose(self, words: dict[str, list[Any]], generators: Sequence[Any]) -> Any:
        """Show one observation, and ask for the action until there is one.

        Raises:
            QuitError: if that is enough.
        """
        import numpy as np

        ((instruction,), (observation,), (episode,)) = words["instruction"], words["observation"], generators
        if episode is not self._episode:  # each has a generator of its own
            self._episode = episode
            self._print(f"\n{instruction}")
            if "actions" not in words:
                self._print_menu()
        self._print(observation)
        if "actions" in words:
            (self._texts,) = words["actions"]
            self._print_menu()
        while True:
            try:
                answer = input("> ").strip().lower()
            except EOFError:
                raise QuitError from None
            if answer in ("q", "quit"):
                raise QuitError
            action = self._understand(answer)
            if action is not None:
                return np.array([action])
            self._print(f"Which of {', '.join(self._texts)}?")

    def _print_menu(self) -> None:
        menu = "  ".join(f"{number} {text}" for number, text in enumerate(self._texts))
        self._print(f"{menu}  (a number, or how it begins; q to quit)")

    def _understand(self, answer: str) -> int | None:
        """Return the action that an answer means: its number, or the only one whose text begins so."""
        if answer.isdecimal() and int(answer) < len(self._texts):
            return int(answer)
        fitting = [index for index, text in enumerate(self._texts) if answer and text.lower().startswith(answer)]
        exact = [index for index in fitting if self._texts[index].lower() == answer]
        return (exact or fitting)[0] if len(exact or fitting) == 1 else None

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False)  # the environment's words may hold square brackets


def main(arguments: list[str] | None = None) -> None:
    """Run `heed demos` with the command line's arguments."""
    with as_sentence():
        record(parse(DemosConfig, arguments, command="heed demos"))


if __name__ == "__main__":
    main()
