"""Whether a way of reading a model gives what the definition gives, tried out where mistakes would show.

A mask or a cache of ours may be heeded by a model, or be dropped, or be misread, all in silence. So each way is tried
out before it is used: in float32, at the full length of the prompts, which is beyond the windows within them. What is
compared is how much higher one action stands than another, since that is what decides.

A small model is tried out itself, with other weights: a new model's are so small that nothing shows. Of a large one it
would take minutes, so a small one of its architecture is (`heed.policies.backbones.probe_model`), and the large one
only on short prompts, as far as its own numbers can tell.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from heed.policies.backbones.probe_model import probe_of, telling_weights
from heed.policies.heads.trie import ActionTrie, Tries
from heed.policies.prompts.layout import PADDING

SMALL = 4_000_000
"""Weights up to which a model is tried out itself, at full length."""

SHORT = 5
"""Tokens of the prompts on which a large model is."""

ACTIONS = ((7, 3, 5), (7, 3, 9, 4), (8,), (9, 3))
"""What is scored: two actions that begin alike, and two more."""

Scores = Callable[[PreTrainedModel, Tensor, Tries], Tensor]
"""Scores actions, (B, A), after prompts, (B, L)."""


class TrialError(ValueError):
    """A model cannot read what it is to read. The message says why."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A model, and prompts with the scores that it gives by definition, to try a way of reading out on."""

    model: PreTrainedModel
    tries: Tries
    cases: tuple[tuple[Tensor, Tensor], ...]
    """Prompts, (2, L), and the scores, (2, A)."""
    tolerance: float
    """By which share of the largest difference between actions another difference may be off."""

    @classmethod
    def of(cls, model: PreTrainedModel, definition: Scores, lengths: Sequence[int], tolerance: float) -> Trial:
        """Return a trial with prompts of these lengths."""
        embedding = model.get_input_embeddings()
        vocabulary = embedding.num_embeddings if isinstance(embedding, torch.nn.Embedding) else max(map(max, ACTIONS))
        trie = ActionTrie.build([[token % vocabulary for token in action] for action in ACTIONS], distinct=False)
        tries = Tries([trie]).to(model.device)
        prompts = [_prompts(length, vocabulary).to(model.device) for length in lengths]
        with torch.no_grad():
            cases = tuple((one, definition(model, one, tries)) for one in prompts)
        return cls(model=model, tries=tries, cases=cases, tolerance=tolerance)

    def accepts(self, scores: Scores) -> bool:
        """Say whether `scores` gives what the definition gives, as nearly as the model's numbers can tell."""
        try:
            with torch.no_grad():
                return all(
                    agree(scores(self.model, prompts, self.tries), expected, self.tolerance)
                    for prompts, expected in self.cases
                )
        except torch.OutOfMemoryError:
            raise  # it says nothing about the way
        except _NOT_TAKEN:
            return False  # the model does not take such a mask, such positions or such a cache


_NOT_TAKEN = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError)
"""What models raise that do not take what they are given."""


def _prompts(length: int, vocabulary: int) -> Tensor:
    """Return two prompts, (2, length), the second one shorter."""
    first = min(3, vocabulary - 1)  # the first ids are often special, and some models count on from their padding
    generator = torch.Generator().manual_seed(length)
    prompts = torch.randint(first, vocabulary, (2, length), generator=generator)
    prompts[1, max(1, 2 * length // 3) :] = PADDING
    return prompts


@contextlib.contextmanager
def trials_of(model: PreTrainedModel, definition: Scores, longest: int, window: int | None) -> Iterator[list[Trial]]:
    """Within this, give what ways of reading `model` are to be tried out on.

    Args:
        model: a language model; while it is tried out itself, it has other weights.
        definition: scores actions as a way is to do.
        longest: how many tokens prompts have at the most.
        window: how many tokens back its layers see at the least, as far as is known.

    Raises:
        TrialError: if the model cannot read such prompts by definition.
    """
    lengths = [longest]
    if window is not None and window - len(ACTIONS) < longest:  # the longest that a mask of ours is used for
        lengths.append(max(1, window - len(ACTIONS)))
    training = model.training
    model.train(False)
    try:
        if sum(weight.numel() for weight in model.parameters()) <= SMALL:
            with _other_weights(model):
                yield [_trial_of_itself(model, definition, lengths, 1e-3)]
            return
        tolerance = 1e-3 if model.dtype in (torch.float32, torch.float64) else 0.2
        short = _trial_of_itself(model, definition, [min(SHORT, longest)], tolerance)
        try:
            probe = Trial.of(probe_of(model), definition, lengths, 1e-3)
        except torch.OutOfMemoryError:
            raise  # it says nothing about the model
        except Exception:  # a class that takes no other configuration is tried out itself
            probe = _trial_of_itself(model, definition, lengths, tolerance)
        yield [short, probe]
    finally:
        model.train(training)


def _trial_of_itself(model: PreTrainedModel, definition: Scores, lengths: Sequence[int], tolerance: float) -> Trial:
    try:
        return Trial.of(model, definition, lengths, tolerance)
    except torch.OutOfMemoryError:
        raise
    except _NOT_TAKEN as error:
        raise TrialError(
            f"{type(model).__name__} cannot read prompts of {max(lengths)} tokens with actions behind them "
            f"({type(error).__name__}: {error})."
        ) from error


def agree(scores: Tensor, expected: Tensor, tolerance: float) -> bool:
    """Say whether scores (B, A) differ from one another as the `expected` do."""
    off, expected = (scores - expected).double(), expected.double()
    spread = (expected - expected.mean(dim=1, keepdim=True)).abs().amax(dim=1, keepdim=True)
    between = (off - off.mean(dim=1, keepdim=True)).abs()
    # The level of all of them counts as well, though less: scores are log-likelihoods, which some compare themselves.
    level = off.abs() <= tolerance * (1 + expected.abs())
    return bool(((between <= tolerance * spread + 2e-5) & level).all())


@contextlib.contextmanager
def _other_weights(model: PreTrainedModel) -> Iterator[None]:
    """Within this, a model has weights that tell mistakes (`telling_weights`); afterwards its own, untouched."""
    own = [(one, one.data) for one in (*model.parameters(), *model.buffers())]
    for weight, new in telling_weights(model).items():
        weight.data = new
    for buffer in model.buffers():
        if buffer.dtype in (torch.bfloat16, torch.float16):
            buffer.data = buffer.data.float()
    try:
        yield
    finally:
        for one, data in own:
            one.data = data
