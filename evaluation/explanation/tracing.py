"""One episode as the page's step viewer shows it: what the agent saw, how it decided, and which words moved it."""

from __future__ import annotations

import io
from collections import deque
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from heed.agents.agent import LanguageAgent
from heed.evaluation.explanation.episode import NextStep, Play, newest_words, picture_of
from heed.evaluation.explanation.saliency import Saliency, explain
from heed.policies.language_policy import LanguagePolicy

FIRST_STEPS, LAST_STEPS = 60, 20
"""Of a longer episode the first and the last steps are kept: how it began, and how it ended."""

COLOURS = 128
"""Of a picture: small grid worlds have fewer, and a PNG of so many is a quarter as large as one of all."""


@dataclass(frozen=True, kw_only=True)
class TracedStep:
    """One step."""

    number: int
    """From 1."""
    picture: bytes | None
    """What the environment drew before the step, a PNG, if it draws."""
    instruction: str
    observation: str
    action: Any
    action_text: str
    action_texts: tuple[str, ...] | None
    """Of the actions that there were to choose from, if they have any."""
    probabilities: npt.NDArray[np.float64] | None
    """Of every one of them, (A,); None where actions have no list of probabilities."""
    value: float | None
    """What the agent expected: the critic's value, or the Q-value of the action; None where it has neither."""
    reward: float
    """What the step brought."""
    saliency: Saliency | None
    """Of the action that was taken; None where there is no language policy, or it was not asked for."""


@dataclass(frozen=True, kw_only=True)
class Trace:
    """One episode, or the beginning and the end of a long one."""

    title: str
    """What is special about it; may be empty."""
    seed: int
    instruction: str
    """As the agent was told it at the beginning."""
    true_instruction: str
    """The one by which success was judged."""
    value_name: str
    """What `TracedStep.value` is."""
    explained_name: str
    """What the words' numbers are differences of."""
    steps: tuple[TracedStep, ...]
    length: int
    """Steps of the episode; where there are fewer in `steps`, those in between are left out."""
    end_picture: bytes | None
    end_observation: str
    """What there was to see behind the last step; without a history."""
    success: bool
    shown_success: bool | None
    """Whether the instruction that was shown was fulfilled, where that is another one and the environment tells."""
    episode_return: float
    finished: bool = True
    """Whether the episode came to its end; else it was given up after `length` steps."""


def trace_episode(
    agent: LanguageAgent,
    env: gymnasium.Env[Any, Any],
    *,
    seed: int,
    generator: np.random.Generator,
    title: str = "",
    saliency: bool = True,
    max_episode_steps: int | None = None,
) -> Trace:
    """Play one episode with sampled actions, and note what the agent saw, thought and read.

    With `generator = heed.envs.demonstrations.demonstrate.action_generator(seed)` it is the episode that the
    evaluation plays for that seed with sampled actions, and that `record_episode` records.

    Args:
        agent: chooses the actions.
        env: a language environment; its `render` is used where its `render_mode` is "rgb_array".
        seed: of the episode.
        generator: draws the actions.
        title: what is special about the episode.
        saliency: tell which words moved each decision. For every step that costs a gradient, and one reading for each
            word.
        max_episode_steps: as in `heed.evaluation.explanation.episode.Play`.

    Returns:
        The episode, of a long one its first `FIRST_STEPS` and its last `LAST_STEPS` steps.
    """
    play = Play(agent, env, seed=seed, generator=generator, max_episode_steps=max_episode_steps)
    first: list[_Seen] = []
    last: deque[_Seen] = deque(maxlen=LAST_STEPS)
    for moment in play:
        seen = _Seen(moment, as_png(picture_of(env)))
        (first if len(first) < FIRST_STEPS else last).append(seen)
    policy = _language_policy(agent)
    has_value = policy is not None and getattr(agent, "has_critic", True)
    steps = [
        _traced(
            seen,
            play,
            value=_value(policy, seen.moment) if policy is not None and has_value else None,
            saliency=explain(policy, seen.moment.observation, seen.moment.action) if policy and saliency else None,
        )
        for seen in [*first, *last]
    ]
    return Trace(
        title=title,
        seed=seed,
        instruction=play.instruction,
        true_instruction=play.true_instruction,
        value_name="value of what is seen" if policy is None else policy.value_name,
        explained_name="log-probability" if policy is None else policy.explained_name,
        steps=tuple(steps),
        length=play.steps,
        end_picture=as_png(picture_of(env)),
        end_observation=newest_words(env, play.observation),
        success=play.success,
        shown_success=play.shown_success if play.true_instruction != play.instruction else None,
        episode_return=play.episode_return,
        finished=play.finished,
    )


def as_png(picture: Image.Image | None) -> bytes | None:
    """Return a picture as a small PNG file."""
    if picture is None:
        return None
    # An octree is quick, and unlike a median cut it leaves a small object its colour.
    few = picture.convert("RGB").quantize(COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    file = io.BytesIO()
    few.save(file, format="PNG", optimize=True)
    return file.getvalue()


@dataclass(frozen=True)
class _Seen:
    """A moment of the episode, with what there was to see; what is told of it later costs nothing while it plays."""

    moment: NextStep
    picture: bytes | None


def _traced(seen: _Seen, play: Play, *, value: float | None, saliency: Saliency | None) -> TracedStep:
    moment = seen.moment
    return TracedStep(
        number=moment.number,
        picture=seen.picture,
        instruction=moment.observation["instruction"],
        observation=moment.observation["observation"],
        action=moment.action,
        action_text=moment.describe(moment.action),
        action_texts=moment.action_texts,
        probabilities=None if moment.probabilities is None else np.asarray(moment.probabilities, dtype=np.float64),
        value=value,
        reward=play.rewards[moment.number - 1],
        saliency=saliency,
    )


def _language_policy(agent: LanguageAgent) -> LanguagePolicy | None:
    """Return the agent's language policy; an agent with a table has none."""
    policy = getattr(agent, "policy", None)
    return policy if isinstance(policy, LanguagePolicy) else None


def _value(policy: LanguagePolicy, moment: NextStep) -> float:
    prompts, _ = policy.obs_to_tensor(moment.observation)
    with torch.no_grad():
        return float(policy.values_of(prompts, torch.as_tensor(np.asarray(moment.action))[None]))
