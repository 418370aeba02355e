"""Trials of how a model is read, made once for each architecture of the suite instead of for each network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from heed.policies.heads import scoring
from heed.policies.networks import text_network

LEAST = 100_000
"""Weights from which trials are kept: those of smaller models cost little, and tests like to break such models."""

_kept: dict[Any, list[Any]] = {}


def keep_trials(patch: Callable[[Any, str, Any], None]) -> None:
    """Let networks of the same architecture share the trials that each of them would make, with `monkeypatch.setattr`.

    A small model is tried out with weights that are not its own, so the outcome depends on its architecture alone. It
    takes as long as the rest of an agent, and many tests make many agents of `heed-tiny`.
    """
    patch(scoring, "exact_methods", _exact_ways)
    patch(text_network, "exact_methods", _exact_ways)


_tried = scoring.exact_methods


def _exact_ways(model: Any, candidates: Sequence[Any], normalization: Any = "mean", **lengths: Any) -> list[Any]:
    if sum(weight.numel() for weight in model.parameters()) < LEAST:
        return _tried(model, candidates, normalization, **lengths)
    weights = tuple((name, one.shape, one.dtype, one.device) for name, one in model.named_parameters())
    attention = model.config._attn_implementation
    asked = (tuple(candidates), normalization, *lengths.items())
    key = (type(model), repr(model), repr(model.config), attention, weights, asked)
    if key not in _kept:
        _kept[key] = _tried(model, candidates, normalization, **lengths)
    return list(_kept[key])
