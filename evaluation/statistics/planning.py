"""How many episodes find which difference: the sample size of McNemar's test on paired episodes.

After Connor (1987, Biometrics 43, doi:10.2307/2531961): with a share ψ of *discordant* episodes, on which one agent
succeeds and the other fails, and a difference δ of their success rates, E episodes find it with the power

    Φ((δ sqrt(E) - z sqrt(ψ)) / sqrt(ψ - δ²)),        z the normal 97.5 % point.

It is about two agents as they are. Other training seeds of a method are another matter, which no number of episodes
settles.
"""

from __future__ import annotations

import math
from statistics import NormalDist

Z = NormalDist().inv_cdf(0.975)


def independent_discordance(rate: float, difference: float) -> float:
    """Return the share of episodes on which one of two agents succeeds and the other fails, if each by itself.

    That is, if nothing makes an episode hard for both. Usually something does, and it is less: an evaluation shows it.

    Args:
        rate: of the agent that succeeds less often.
        difference: to the other one's.

    Raises:
        ValueError: if a rate is not between 0 and 1, or the difference not above 0.
    """
    better = rate + difference
    if not (0 <= rate < better <= 1 + 1e-12):
        raise ValueError(
            f"Success rates of {rate:g} and {better:g} cannot be: both must be between 0 and 1, and the difference "
            "above 0."
        )
    better = min(1.0, better)
    return rate * (1 - better) + better * (1 - rate)


def episodes_needed(
    *, difference: float = 0.05, rate: float | None = None, discordance: float | None = None, power: float = 0.8
) -> int:
    """Return how many episodes both agents must play to find a difference of their success rates with some power.

    Found means that the paired 95 % interval of `compare_paired` does not hold 0.

    Args:
        difference: of the success rates, above 0.
        rate: of the agent that succeeds less often; with it, episodes are taken to be hard for one agent independently
            of the other, which is the worst that is usual.
        discordance: the share of episodes on which one succeeds and the other fails, if it is known: then `rate` is not
            needed.
        power: the share of such evaluations that find it.

    Raises:
        ValueError: if numbers cannot be, or both or neither of `rate` and `discordance` are given.
    """
    share = _share(difference, rate, discordance)
    if not 0 < power < 1:
        raise ValueError(f"The power is {power:g}, but must be between 0 and 1.")
    spread = Z * math.sqrt(share) + NormalDist().inv_cdf(power) * math.sqrt(max(0.0, share - difference**2))
    return math.ceil(max(0.0, spread / difference) ** 2)


def _share(difference: float, rate: float | None, discordance: float | None) -> float:
    """Return the share of discordant episodes, from either way to tell it."""
    if (rate is None) == (discordance is None):
        raise ValueError(
            "Give either the rate of the agent that succeeds less often, or the share of discordant episodes."
        )
    if discordance is None:
        assert rate is not None
        return independent_discordance(rate, difference)
    if not 0 < difference <= discordance <= 1:
        raise ValueError(
            f"A difference of {difference:g} with {discordance:g} of the episodes discordant cannot be: it must be "
            "above 0, and no larger than the share of discordant episodes."
        )
    return discordance
