"""DAgger, dataset aggregation (Ross, Gordon and Bagnell 2011, arXiv 1011.0686).

A clone sees, in its demonstrations, only states that the expert comes to, and does not know the way back from its own
mistakes. Here the learner acts, round after round, the expert labels every state that it visits, and the learner trains
on all that was gathered. What differs from the paper:
- the mixture draws for each step whether expert or learner acts, the expert with probability beta ** round; the default
  beta = 0 is the paper's parameter-free choice: the demonstrations come first, then the learner alone acts;
- a round goes on from the weights of the round before instead of from new ones, which takes fewer epochs;
- of the rounds' policies the last is kept, not the one that does best on validation;
- where the expert gives up within an episode, what it labelled until then is kept.

Of several learners each plays its part of the episodes, and all learn from all of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from heed.agents.acting import sampled, unreadable
from heed.agents.imitation.cloning import Cloned, Cloning, Epoch, clone_split, split_by_seed
from heed.agents.policy_gradient import PolicyGradient
from heed.envs.demonstrations.demonstrate import TIMEOUT, MakeEnv, Outcome, demonstrate
from heed.envs.demonstrations.demonstrations import Demonstration, demonstration_seeds


@dataclass(frozen=True, kw_only=True)
class Round:
    """One round: what was played, and what the training on all episodes so far came to."""

    number: int
    """0 is the cloning of the demonstrations."""
    expert_share: float
    """The probability with which the expert acted."""
    played: int
    """Episodes of this round."""
    success_rate: float
    """Of these."""
    given_up: int
    """Episodes of this round in which the expert did not know further, or which did not end."""
    cloned: Cloned

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Aggregated:
    """What DAgger came to."""

    rounds: tuple[Round, ...]
    demonstrations: tuple[Demonstration, ...]
    """All that was gathered, with the expert's labels."""


def dagger(
    agent: PolicyGradient,
    make_env: MakeEnv,
    demonstrations: Sequence[Demonstration] = (),
    settings: Cloning | None = None,
    *,
    rounds: int,
    episodes: int,
    beta: float = 0.0,
    history: int = 0,
    n_envs: int = 32,
    max_episode_steps: int | None = None,
    step_timeout: float | None = TIMEOUT,
    reset_timeout: float | None = TIMEOUT,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    on_round: Callable[[Round], None] = lambda round_: None,
) -> Aggregated:
    """Train the policy of `agent`, in place, on what an expert does in the states that it comes to itself.

    Args:
        agent: as in `clone`.
        make_env: makes the language environment, which has an expert, without a history.
        demonstrations: to begin with; where there are none, the expert plays `episodes` of them.
        settings: of the training in each round; by default `Cloning()`.
        rounds: in which the learner acts.
        episodes: in each round.
        beta: the expert acts in place of the learner with probability `beta ** round`.
        history: the length of the `History` that the agent reads its observations with.
        n_envs: how many episodes run side by side.
        max_episode_steps: as in `heed.envs.demonstrations.demonstrate.demonstrate`; what an episode that is
            given up came to is kept.
        step_timeout: as there.
        reset_timeout: as there.
        on_epoch: is told of each epoch.
        on_round: is told of each round.

    Raises:
        ValueError: if a number cannot be.
        ExpertError: if the environment has no expert.
        DemonstrationError: as `clone`.
    """
    if rounds < 0 or episodes < 1 or not 0 <= beta <= 1:
        raise ValueError(f"There must be rounds >= 0, episodes >= 1 and 0 <= beta <= 1, not {rounds, episodes, beta}.")
    settings = settings or Cloning()
    all_seeds = demonstration_seeds(settings.seed, (rounds + 1) * episodes, part=1)
    training: list[Demonstration] = []
    held_out: list[Demonstration] = []
    finished: list[Round] = []
    for number in range(rounds + 1):
        share = beta**number
        if number == 0 and demonstrations:
            outcomes = [Outcome(number=0, demonstration=episode, given_up=None) for episode in demonstrations]
        else:
            seeds = all_seeds[number * episodes : (number + 1) * episodes]
            choose = sampled(agent) if number else None
            options = {
                "expert_share": share if number else None,
                "refused": unreadable(agent) if number else None,
                "history": history,
                "n_envs": n_envs,
                "max_episode_steps": max_episode_steps,
                "step_timeout": step_timeout,
                "reset_timeout": reset_timeout,
            }
            ranks = agent.ranks
            played = demonstrate(make_env, ranks.part(seeds), choose, **options)  # type: ignore[arg-type]
            of_each = ranks.gather(sorted(played, key=lambda outcome: outcome.number))
            outcomes = [outcome for each in itertools.zip_longest(*of_each) for outcome in each if outcome is not None]
        # Each round is split by itself: what was held out once is never trained on.
        parts = split_by_seed([outcome.demonstration for outcome in outcomes], settings.validation, seed=settings.seed)
        training += parts[0]
        held_out += parts[1]
        cloned = clone_split(agent, training, held_out, settings, history=history, on_epoch=on_epoch)
        this_round = Round(
            number=number,
            expert_share=share,
            played=len(outcomes),
            success_rate=sum(outcome.demonstration.success for outcome in outcomes) / len(outcomes),
            given_up=sum(outcome.given_up is not None for outcome in outcomes),
            cloned=cloned,
        )
        finished.append(this_round)
        on_round(this_round)
    return Aggregated(rounds=tuple(finished), demonstrations=(*training, *held_out))
