"""Agents that are not ours, as policies: SB3's `predict`, plain functions, language models that are merely asked."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from heed.agents.acting import Policy, uniform
from heed.envs.contract import ChangingActions, action_texts_of
from heed.envs.demonstrations.demonstrate import Choose, Words
from heed.envs.vectorize import stack_observations
from heed.evaluation.playing.zero_shot import likeliest
from heed.policies.models.language_model import LanguageModel
from heed.policies.prompts.text_tokens import spelled_apart

QUESTION = """You act in a world, step by step.
Your task: {instruction}
What you see: {observation}
Your possible actions: {actions}
Answer with one of these actions and nothing else.
Action:"""
"""What a text-generation pipeline is asked."""
MORE_TOKENS = 4
"""Tokens that an answer may have beyond the longest action text: a quotation mark, a full stop."""


class BaselineError(ValueError):
    """A baseline answered with what is no action. The message says what it was."""


def baseline_policy(name: str, baseline: Any, env: gymnasium.Env[Any, Any]) -> Policy:
    """Return somebody else's agent as a policy.

    Args:
        name: of the policy.
        baseline: an object with SB3's `predict(observation, deterministic=...)` for a batch of language observations
            (a dict of arrays of strings); or a text-generation pipeline of `transformers`; or a function from one
            language observation (a dict with the keys `instruction` and `observation`) to an action or an action's
            text; or a `LanguageModel`, which chooses zero-shot.
        env: whose actions it chooses.

    Raises:
        TypeError: if it is none of these, or cannot choose this environment's actions.
    """
    if isinstance(baseline, LanguageModel):
        return Policy(name=name, choose=likeliest(baseline, env))
    if getattr(baseline, "task", None) == "text-generation":
        return Policy(name=name, choose=asked(baseline, env), own=False)
    if hasattr(baseline, "predict"):
        return Policy(name=name, choose=_predicted(baseline), own=False)
    if callable(baseline):
        return Policy(name=name, choose=_computed(baseline, env), own=False)
    raise TypeError(
        f"{name} is {baseline!r}, but only an object with `predict`, a function of an observation, a "
        "text-generation pipeline of transformers, or a LanguageModel can play."
    )


def _predicted(baseline: Any) -> Choose:
    takes_deterministic = "deterministic" in inspect.signature(baseline.predict).parameters

    def choose(words: Words, generators: Sequence[np.random.Generator]) -> npt.NDArray[Any]:
        observation = stack_observations(list(words), _rows(words))
        answer = baseline.predict(observation, **({"deterministic": True} if takes_deterministic else {}))
        actions = np.asarray(answer[0] if isinstance(answer, tuple) else answer)
        if len(actions) != len(generators):
            raise BaselineError(f"`predict` gave {len(actions)} actions for {len(generators)} observations.")
        return actions

    return choose


def _computed(function: Callable[[Mapping[str, str]], Any], env: gymnasium.Env[Any, Any]) -> Choose:
    texts = action_texts_of(env)

    def choose(words: Words, generators: Sequence[np.random.Generator]) -> npt.NDArray[Any]:
        rows = _rows(words)
        return np.array([_as_action(function(row), row.get("actions", texts)) for row in rows])

    return choose


def _rows(words: Words) -> list[dict[str, Any]]:
    """Return a batch as single observations."""
    return [dict(zip(words, row, strict=True)) for row in zip(*words.values(), strict=True)]


def _as_action(answer: Any, texts: Sequence[str] | None) -> Any:
    if not isinstance(answer, str):
        return answer
    if texts is None or answer not in texts:
        raise BaselineError(f"The answer was {answer!r}, which is none of the actions {list(texts or ())}.")
    return texts.index(answer)


def asked(pipeline: Any, env: gymnasium.Env[Any, Any], *, question: str = QUESTION, batch_size: int = 16) -> Choose:
    """Ask a language model, zero-shot, which action to take; an answer that names none is drawn at random instead.

    Args:
        pipeline: `transformers.pipeline("text-generation", ...)`. A model with a chat template is asked in its form.
        env: whose actions are asked for.
        question: with the fields `instruction`, `observation` and `actions`.
        batch_size: questions that are generated for at once.

    Raises:
        TypeError: if the actions have no texts.
    """
    fixed = action_texts_of(env)
    changing = isinstance(env.action_space, ChangingActions)
    if not changing and (fixed is None or not isinstance(env.action_space, spaces.Discrete)):
        raise TypeError("A language model can only be asked for actions that have texts.")
    tokenizer = pipeline.tokenizer
    at_random = uniform(env.action_space)
    options: dict[str, Any] = {"do_sample": False, "return_full_text": False}
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token_id = tokenizer.eos_token_id or 0  # a batch is filled up with something
    tokenizer.padding_side = "left"  # what is generated follows the question
    known: dict[tuple[str, str, tuple[str, ...]], int | None] = {}

    def choose(words: Words, generators: Sequence[np.random.Generator]) -> npt.NDArray[Any]:
        lists = words["actions"] if changing else [fixed] * len(generators)
        rows = list(zip(words["instruction"], words["observation"], lists, strict=True))
        new = [row for row in dict.fromkeys(rows) if row not in known]
        prompts: list[Any] = [
            question.format(
                instruction=spelled_apart(tokenizer, instruction),
                observation=spelled_apart(tokenizer, observation),
                actions=spelled_apart(tokenizer, ", ".join(texts)),
            )
            for instruction, observation, texts in new
        ]
        if getattr(tokenizer, "chat_template", None):
            prompts = [[{"role": "user", "content": prompt}] for prompt in prompts]
        different = dict.fromkeys(text for *_, texts in new for text in texts)
        longest = max((len(tokenizer(text)["input_ids"]) for text in different), default=0) + MORE_TOKENS
        answers = pipeline(prompts, batch_size=batch_size, max_new_tokens=longest, **options) if new else []
        for row, answer in zip(new, answers, strict=True):
            known[row] = understood(answer[0]["generated_text"], row[2])
        chance = at_random(words, generators)
        found = [known[row] for row in rows]
        return np.array([drawn if action is None else action for action, drawn in zip(found, chance, strict=True)])

    return choose


def understood(answer: str, texts: Sequence[str]) -> int | None:
    """Return the action whose text an answer names first, the longest of those that begin there; None if none does."""
    lower = answer.lower()
    places = [(lower.find(text.lower()), -len(text), index) for index, text in enumerate(texts)]
    named = [place for place in places if place[0] >= 0]
    return min(named)[2] if named else None
