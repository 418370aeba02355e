"""Which words of the prompt moved the decision.

What is explained is one number: for a policy gradient the log-probability of an action, for Q-learning how far its
Q-value stands above the mean of all. There are three ways to say what a word did to it:

- *leave one word out*: the number for the whole text less the number for the text without the word, encoded and read
  anew. After Li, Monroe and Jurafsky 2016 (arXiv 1612.08220), who divide by the number for the whole text; a
  log-probability near zero would blow that up, so the difference stays as it is here.
- *gradient x input*: the number's gradient with respect to the input embeddings, times the embeddings, added up over a
  word's tokens. It is the first-order estimate of what would be lost if the word's embeddings faded to zero. The
  gradient goes back to Simonyan et al. 2013 (arXiv 1312.6034), the product with the input to Shrikumar et al. 2016
  (arXiv 1605.01713).
- *gradient norm*: the length of that gradient (Li et al. 2015, arXiv 1506.01066, take absolute values instead): how
  strongly the number reacts to a small change of the word, whichever way. It has no sign.

The first two are positive where a word speaks for the action. They need not agree. Leaving out shows what really
happens, though to a text that the policy may never have seen. A product with the input only sees a word grow longer or
shorter as a vector, and a transformer normalises length away before it looks: a word may decide everything and get
next to nothing. `tests/evaluation/test_saliency.py` holds them against each other where they must be equal, and shows a
model in which the product is zero.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from heed.policies.backbones.backbone import backbone_of
from heed.policies.language_policy import LanguagePolicy
from heed.policies.prompts.layout import PADDING
from heed.policies.prompts.words import PARTS, Part, Word, without, words_of


@dataclass(frozen=True, kw_only=True)
class Saliency:
    """What each of W words did for one action."""

    action: npt.NDArray[Any]
    """The action that is explained; of Discrete actions its number, ()."""
    explained: float
    """The action's log-probability, or its Q-value less the mean of all."""
    words: tuple[Word, ...]
    """Those of the instruction, then those of the observation, W of them."""
    leave_one_out: npt.NDArray[np.float64]
    """(W,)"""
    gradient_x_input: npt.NDArray[np.float64]
    """(W,); NaN of a sentence encoder without weights, which has no gradient."""
    gradient_norm: npt.NDArray[np.float64]
    """(W,), none negative; NaN as well."""


def explain(policy: LanguagePolicy, observation: Mapping[str, Any], action: Any = None) -> Saliency:
    """Tell which words of a language observation speak for an action, and which against it.

    The policy computes as it does when it acts; what it remembers of other prompts is neither used nor changed, nor
    are the gradients of its parameters.

    Args:
        policy: of any head.
        observation: `instruction` and `observation`, each one text, and what the policy reads beside them, which stays
            as it is.
        action: in the policy's action space; the most probable or most valued one unless given. (Where actions are
            numbers, the most probable one is the top of a bell, and the gradient there is zero: give another.)

    Raises:
        ValueError: if the action is none of the policy's, or the language model does not look its tokens up in its
            input embedding.
    """
    texts: dict[Part, str] = {part: observation[part] for part in PARTS}
    room = policy.encoder.room_before([observation["actions"]] if "actions" in policy.encoder.keys else [])
    texts["observation"] = policy.encoder.seen_of(
        texts["instruction"], texts["observation"], None if room is None else room[0]
    )
    words = words_of(policy.encoder, *texts.values())
    prompt = _prompts(policy, observation, [texts])
    network = policy.reader
    with network.reading_anew():
        with torch.no_grad():
            chosen = policy.best_actions(prompt) if action is None else _as_tensor(policy, action)
        gradient, embeddings = _gradient_of(policy, prompt, chosen)
        with torch.no_grad():
            variants = [{**texts, word.part: without(texts[word.part], word)} for word in words]
            numbers = policy.explained(_prompts(policy, observation, [texts, *variants]), chosen).double().cpu().numpy()
    tokens = [list(word.tokens) for word in words]
    return Saliency(
        action=chosen.cpu().numpy()[0],
        explained=float(numbers[0]),
        words=tuple(words),
        leave_one_out=numbers[0] - numbers[1:],
        gradient_x_input=np.array([float((gradient[one] * embeddings[one]).sum()) for one in tokens]),
        gradient_norm=np.array([float(gradient[one].norm()) for one in tokens]),
    )


def _gradient_of(policy: LanguagePolicy, prompt: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
    """Return what `embedding_gradient` does, or NaN, (L, 1) each, of a model that has no gradient."""
    if policy.language_model.backbone.trains:
        return embedding_gradient(policy, prompt, action)
    nothing = torch.full((prompt.shape[1], 1), torch.nan)
    return nothing, nothing


def embedding_gradient(policy: LanguagePolicy, prompt: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradient of `LanguagePolicy.explained` with respect to a prompt's input embeddings, and these.

    Args:
        policy: of any head, reading anew.
        prompt: token ids, (1, L).
        action: (1, ...).

    Returns:
        Gradient and embeddings, each (L, D), zero at the padding.

    Raises:
        ValueError: if the language model does not look its tokens up in its input embedding.
    """
    network = policy.reader
    model = network.model
    tokens = policy.encoder.layout.tokens_of(prompt)
    length = int((tokens != PADDING).sum())
    width = backbone_of(model).embedding_width
    shift = torch.zeros(length, width, dtype=model.dtype, device=prompt.device, requires_grad=True)
    pieces = network.pieces(tokens[0, :length])
    with torch.enable_grad(), shifted_embeddings(model, pieces, shift) as seen:
        number = policy.explained(prompt, action).sum()
    (gradient,) = torch.autograd.grad(number, shift)
    padding = (0, 0, 0, tokens.shape[1] - length)
    embeddings = seen
    wide = torch.float64 if embeddings.dtype == torch.float64 else torch.float32
    return (
        nn.functional.pad(gradient.to(wide), padding),
        nn.functional.pad(embeddings.to(wide), padding),
    )


@contextlib.contextmanager
def shifted_embeddings(
    model: PreTrainedModel, pieces: Sequence[tuple[Tensor, Tensor]], shift: Tensor
) -> Iterator[Tensor]:
    """Within this, the model's input embeddings of a prompt are what they were, plus `shift`.

    However a policy computes its numbers, in one forward or in several, with action texts behind the prompt or in a
    decoder: wherever it looks up the tokens of this prompt it gets the shifted embeddings. So the gradient with respect
    to a shift of zero is that with respect to the embeddings.

    Args:
        model: the policy's language model.
        pieces: what of the prompt is looked up together (`PromptNetwork.pieces`).
        shift: (L, D).

    Yields:
        The embeddings without the shift, (L, D), as soon as they were looked up; 0 where nothing is.

    Raises:
        ValueError: on leaving, if the prompt was never looked up.
    """
    seen = torch.zeros_like(shift.detach())
    found = False

    def add(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any], embeddings: Tensor) -> Tensor | None:
        nonlocal found
        tokens = arguments[0] if arguments else next(iter(named.values()))  # (B, S)
        shifted = None
        for text, places in pieces:
            length = len(text)
            if tokens.shape[-1] < length:
                continue
            rows = (tokens[..., :length] == text).all(dim=-1)  # (B,)
            if not bool(rows.any()):
                continue
            found = True
            own = places >= 0
            seen[places[own]] = embeddings[rows][0, :length][own].detach().to(seen.dtype)
            shifts = shift[places.clamp(min=0)] * own[:, None]
            padded = nn.functional.pad(shifts, (0, 0, 0, tokens.shape[-1] - length)).to(embeddings.dtype)
            shifted = (embeddings if shifted is None else shifted) + rows[:, None, None] * padded
        return shifted

    hook = backbone_of(model).token_embedding.register_forward_hook(add, with_kwargs=True)
    try:
        yield seen
    finally:
        hook.remove()
    if not found:
        raise ValueError(
            f"{type(model).__name__} does not look its tokens up in its input embedding, so no gradient tells what "
            "the words do."
        )


def _prompts(policy: LanguagePolicy, observation: Mapping[str, Any], texts: Sequence[Mapping[Part, str]]) -> Tensor:
    """Return the prompts of `observation` with other texts, (B, L); words alone are cut to the longest."""
    auxiliary = {key: [observation[key]] * len(texts) for key in policy.encoder.layout.keys}
    prompts, _ = policy.obs_to_tensor({part: [one[part] for one in texts] for part in PARTS} | auxiliary)
    if auxiliary:
        return prompts
    return prompts[:, : max(1, int((prompts != PADDING).sum(dim=1).max()))]


def _as_tensor(policy: LanguagePolicy, action: Any) -> Tensor:
    given, space = np.asarray(action), policy.action_space
    kind = np.dtype(space.dtype)
    if not np.can_cast(given.dtype, kind, "same_kind") or not space.contains(given.astype(kind)):
        raise ValueError(f"{action!r} is not an action of {space}.")
    return torch.as_tensor(given.astype(kind), device=policy.device)[None]
