"""Numbers that are not finite: one NaN is in every weight after the next update, so the first one ends what computes.

What is checked is a scalar, or an array as small as a batch's scores, that is there anyway. Only when that is not
finite does anybody look for where it began.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

REMEDY = (
    "Mostly steps are too large: take a smaller learning rate or max_grad_norm, rewards in a smaller unit "
    "(--scale-rewards), or precision=float32 in place of bfloat16."
)
"""What helps where the training itself made the number."""


REWARD_REMEDY = "Look at what computes it: one that an environment gives itself would have cost only that episode."
"""What helps where it came from a wrapper around the environments."""


class NonFiniteError(ArithmeticError):
    """A quantity is NaN or infinite. The message says which one, where it was first, and what may help."""


@contextlib.contextmanager
def telling_when(when: Callable[[], str]) -> Iterator[None]:
    """Say, where a number came up that is not finite, when that was.

    Args:
        when: returns a sentence on how far the training is.

    Raises:
        NonFiniteError: in place of one that does not say it.
    """
    try:
        yield
    except NonFiniteError as error:
        raise NonFiniteError(f"{error} {when()}") from error


def kind_of(numbers: Tensor | npt.NDArray[Any] | float) -> str:
    """Return what the first number is that is not finite: "NaN", "inf" or "-inf"."""
    flat = np.ravel(numbers.detach().float().cpu().numpy() if isinstance(numbers, Tensor) else np.asarray(numbers))
    first = float(flat[~np.isfinite(flat)][0])
    return "NaN" if math.isnan(first) else str(first)


def first_not_finite(named: Iterable[tuple[str, Tensor | None]]) -> tuple[str, Tensor] | None:
    """Return the first of these tensors that holds a number that is not finite, with its name."""
    for name, tensor in named:
        if tensor is not None and not bool(tensor.isfinite().all()):
            return name, tensor
    return None


def require_finite_scores(scores: Tensor, module: nn.Module, *, name: str = "score") -> None:
    """Refuse scores of actions that cannot be drawn from.

    Args:
        scores: (B, A), or what else a distribution is made of.
        module: what computed them.
        name: of one of them.

    Raises:
        NonFiniteError: naming the weight that is not finite, if that is why.
    """
    if bool(scores.isfinite().all()):
        return
    raise NonFiniteError(f"The {name} of an action is {kind_of(scores)}{_why(module)}. {REMEDY}")


def require_finite_values(values: npt.NDArray[Any]) -> None:
    """Refuse values, (..., B, A), of actions to choose among; those that are not there have -inf.

    Raises:
        NonFiniteError: saying what one of them is.
    """
    best = values.max(axis=-1)  # NaN where any of them is
    if not np.isfinite(best).all():
        raise NonFiniteError(f"The value of an action is {kind_of(best)}. {REMEDY}")


def _why(module: nn.Module) -> str:
    """Say whether a weight is what made a number that is not finite."""
    weight = first_not_finite(module.named_parameters())
    return f", since the weight {weight[0]} is {kind_of(weight[1])}" if weight else ", although all weights are finite"


def require_finite_array(array: npt.NDArray[Any], name: str, remedy: str) -> None:
    """Refuse an array with a number that is not finite.

    Args:
        array: its first dimension is that of the environments.
        name: of one of its numbers.
        remedy: a sentence on what may help.

    Raises:
        NonFiniteError: naming the environment.
    """
    if not np.isfinite(array).all():
        place = int(np.argwhere(~np.isfinite(array))[0][0])
        raise NonFiniteError(f"The {name} of environment {place} is {kind_of(array)}. {remedy}")


def require_finite_rollout(arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Refuse a rollout with a number that is not finite.

    Args:
        arrays: name -> (n_steps, n_envs), what others follow from before these.

    Raises:
        NonFiniteError: naming the first that is wrong, and its earliest step.
    """
    wrong = {name: np.argwhere(~np.isfinite(array)) for name, array in arrays.items() if not np.isfinite(array).all()}
    if wrong:
        # Advantages and returns run back from what made them wrong, so they are told of only where nothing else is.
        name = next(iter(wrong))
        step, env = wrong[name][0]
        number = kind_of(arrays[name])
        raise NonFiniteError(f"The {name} of environment {env} in step {step + 1} of the rollout is {number}. {REMEDY}")


def require_finite_loss(measures: Mapping[str, float], module: nn.Module) -> None:
    """Refuse a loss that is not finite, before its gradient moves a weight.

    Args:
        measures: the loss, under a name that ends with it, and its parts.
        module: what it was computed with.

    Raises:
        NonFiniteError: naming the first part that is not finite, and the weight, if that is why.
    """
    losses = {name: value for name, value in measures.items() if name.endswith(("loss", "reference_kl", "entropy"))}
    # Parts before the sum of them.
    for name in sorted(losses, key=lambda name: name == "loss"):
        if not math.isfinite(losses[name]):
            raise NonFiniteError(f"The {name.replace('_', ' ')} is {kind_of(losses[name])}{_why(module)}. {REMEDY}")


def clip_gradient(module: nn.Module, max_norm: float) -> None:
    """Clip the gradient of all parameters to a norm, as `torch.nn.utils.clip_grad_norm_` does.

    Raises:
        NonFiniteError: if it is not finite, naming the first parameter where it is not; no weight has moved.
    """
    parameters = list(module.parameters())
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if not bool(norm.isfinite()):
        gradient = first_not_finite((name, parameter.grad) for name, parameter in module.named_parameters())
        if gradient is None:
            raise NonFiniteError(f"The gradient's norm is beyond float32, although all of it is finite. {REMEDY}")
        raise NonFiniteError(f"The gradient of {gradient[0]} is {kind_of(gradient[1])}. {REMEDY}")
    torch.nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)


def require_finite_weights(module: nn.Module) -> None:
    """Refuse weights that train and are not finite.

    Raises:
        NonFiniteError: naming the first.
    """
    weight = first_not_finite((name, each) for name, each in module.named_parameters() if each.requires_grad)
    if weight is not None:
        raise NonFiniteError(f"The weight {weight[0]} is {kind_of(weight[1])}. {REMEDY}")
