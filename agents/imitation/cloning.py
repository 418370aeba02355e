"""Behaviour cloning (Pomerleau 1991, doi 10.1162/neco.1991.3.1.88): a policy learns to do what demonstrations do.

The loss is the cross-entropy of the demonstrated actions. What differs from the plainest form:
- the value function learns the demonstrations' discounted returns beside it, so that the policy gradients that follow
  do not begin with a critic that knows nothing; where an episode met its time limit its return is not known, and the
  value of its states is left alone;
- a part of the *episodes* is held out, since the states of one episode resemble each other; training stops when the
  loss on it has not fallen for some epochs, and the best weights come back;
- an optimizer of its own, which is forgotten afterwards: that of the agent begins with the agent's own training.

Several ranks clone the same demonstrations in the same order, and each takes its part of every minibatch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from heed.agents.distributed.ranks import ALONE, Ranks
from heed.agents.imitation.readable_demonstrations import readable
from heed.agents.policy_gradient import PolicyGradient
from heed.agents.rollouts.micro_batches import MicroBatches, Rows
from heed.envs.demonstrations.demonstrations import Demonstration, DemonstrationError
from heed.policies.actor_critic import LanguageActorCriticPolicy
from heed.policies.adapters.parameter_groups import FACTOR
from heed.policies.caches.batching import Inputs
from heed.policies.finite import clip_gradient, require_finite_loss, telling_when

EVALUATION_BATCH = 2048
"""Examples that are read at once where no gradient is wanted."""

Weigh = Callable[[Demonstration], Sequence[float]]
"""Gives each step of an episode its weight in the loss."""


@dataclass(frozen=True, kw_only=True)
class Cloning:
    """How a policy is cloned.

    Raises:
        ValueError: if a number cannot be.
    """

    epochs: int = 20
    """At most so many passes over the examples."""
    batch_size: int = 128
    """Examples in a minibatch."""
    learning_rate: float = 1e-3
    """At the start; it falls linearly to a tenth over the epochs. A policy's `LearningRates` multiply it."""
    ent_coef: float = 0.0
    """Weight of an entropy bonus, against a clone that is too sure of itself to explore."""
    vf_coef: float = 0.5
    """Weight of the value function's loss."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this norm."""
    validation: float = 0.1
    """Share of the episodes that are held out; 0 holds none out, and trains all epochs."""
    patience: int = 4
    """Epochs without a better loss on the held-out episodes before it stops."""
    seed: int = 0
    """Of the split and of the order of the examples."""

    def __post_init__(self) -> None:
        """Refuse numbers that cannot be."""
        for name, least in {"epochs": 1, "batch_size": 1, "patience": 1, "ent_coef": 0, "vf_coef": 0}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least {least}.")
        for name in ("learning_rate", "max_grad_norm"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be positive.")
        if not 0 <= self.validation < 1:
            raise ValueError(f"validation is {self.validation}, but must be at least 0 and less than 1.")


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """Means over one pass."""

    epoch: int
    loss: float
    """Cross-entropy of the demonstrated actions, on the examples that train, while they trained."""
    value_loss: float
    validation_loss: float | None
    """Cross-entropy on the held-out episodes, after the epoch."""
    validation_accuracy: float | None
    """How often the most probable action is the demonstrated one there."""
    validation_value_loss: float | None


@dataclass(frozen=True, kw_only=True)
class Cloned:
    """What a cloning came to."""

    episodes: int
    validation_episodes: int
    examples: int
    """Steps of the episodes that trained."""
    epochs: tuple[Epoch, ...]
    best: Epoch
    """The epoch whose weights were kept: the last, where nothing was held out."""

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON."""
        return asdict(self)


def clone(
    agent: PolicyGradient,
    demonstrations: Sequence[Demonstration],
    settings: Cloning | None = None,
    *,
    history: int = 0,
    weigh: Weigh | None = None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> Cloned:
    """Train the policy of `agent`, in place, to do what `demonstrations` do.

    The policy that `reference_coef` holds on to becomes the clone.

    Args:
        agent: with `Discrete` actions, those of the demonstrations.
        demonstrations: at least two, of different seeds, unless no episodes are held out.
        settings: by default `Cloning()`.
        history: the length of the `History` that the agent is going to read its observations with.
        weigh: gives the steps weights in all losses; by default they weigh the same.
        on_epoch: is told of each epoch.

    Raises:
        DemonstrationError: if there are too few demonstrations, or their actions are not the agent's.
        TypeError: if the agent's actions are not `Discrete`.
    """
    settings = settings or Cloning()
    training, held_out = split_by_seed(demonstrations, settings.validation, seed=settings.seed)
    return clone_split(agent, training, held_out, settings, history=history, weigh=weigh, on_epoch=on_epoch)


def split_by_seed(
    demonstrations: Sequence[Demonstration], share: float, *, seed: int
) -> tuple[list[Demonstration], list[Demonstration]]:
    """Split episodes into those that train and a `share` (at least one) that is held out; 0 holds none out.

    Episodes of one seed are the same level, and stay together.

    Raises:
        DemonstrationError: if there are no two different seeds to split.
    """
    if share == 0:
        return list(demonstrations), []
    seeds = list(dict.fromkeys(episode.seed for episode in demonstrations))
    if len(seeds) < 2:
        raise DemonstrationError(
            f"There are demonstrations of {len(seeds)} different seeds: to hold some out takes at least 2."
        )
    count = min(len(seeds) - 1, max(1, round(share * len(seeds))))
    chosen = {seeds[index] for index in np.random.default_rng(seed).permutation(len(seeds))[:count]}
    training = [episode for episode in demonstrations if episode.seed not in chosen]
    return training, [episode for episode in demonstrations if episode.seed in chosen]


def clone_split(
    agent: PolicyGradient,
    training: Sequence[Demonstration],
    held_out: Sequence[Demonstration],
    settings: Cloning,
    *,
    history: int = 0,
    weigh: Weigh | None = None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> Cloned:
    """Do as `clone` with episodes that are split already.

    Raises:
        DemonstrationError: if no step is there to learn from, or the actions are not the agent's.
        TypeError: if the agent's actions are not `Discrete`.
    """
    examples = Examples.of(agent, training, history=history, weigh=weigh)
    if not len(examples):
        raise DemonstrationError("The demonstrations hold no step to learn from.")
    validation = Examples.of(agent, held_out, history=history, weigh=weigh)
    policy = policy_of(agent)
    trained = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    kwargs = {**policy.optimizer_kwargs, "lr": settings.learning_rate}
    optimizer = policy.optimizer_class(policy.trained_parameters(), **kwargs)
    rng = np.random.default_rng((settings.seed, 1))
    steps, total = 0, settings.epochs * -(-len(examples) // settings.batch_size)
    epochs: list[Epoch] = []
    best: Epoch | None = None
    best_weights: list[Tensor] = []
    for number in range(1, settings.epochs + 1):
        policy.set_training_mode(True)
        sums = np.zeros(2)
        for batch in examples.shuffled(settings.batch_size, rng):
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * (1 - 0.9 * steps / total) * group.get(FACTOR, 1.0)
            with telling_when(partial("The cloning ends here, in epoch {} at update {}.".format, number, steps + 1)):
                measures = _accumulate_gradient(policy, optimizer, batch, settings, agent.micro_batches, agent.ranks)
                clip_gradient(policy, settings.max_grad_norm)
            optimizer.step()
            sums += np.array(measures) * len(batch)
            steps += 1
        policy.set_training_mode(False)
        loss, value_loss = (sums / len(examples)).tolist()
        measured = _measure(policy, validation, agent.ranks) if len(validation) else (None, None, None)
        epoch = Epoch(
            epoch=number,
            loss=loss,
            value_loss=value_loss,
            validation_loss=measured[0],
            validation_accuracy=measured[1],
            validation_value_loss=measured[2],
        )
        epochs.append(epoch)
        on_epoch(epoch)
        if epoch.validation_loss is None:
            best = epoch
        elif best is None or best.validation_loss is None or epoch.validation_loss < best.validation_loss:
            best, best_weights = epoch, [parameter.detach().clone() for parameter in trained]
        elif number - best.epoch >= settings.patience:
            break
    with torch.no_grad():
        for parameter, weights in zip(trained, best_weights, strict=bool(best_weights)):
            parameter.copy_(weights)
    optimizer.zero_grad()
    agent.renew_reference()
    assert best is not None
    return Cloned(
        episodes=len(training),
        validation_episodes=len(held_out),
        examples=len(examples),
        epochs=tuple(epochs),
        best=best,
    )


def policy_of(agent: PolicyGradient) -> LanguageActorCriticPolicy:
    """Return the agent's policy.

    Raises:
        TypeError: if the agent is none of policy gradients.
    """
    policy = agent.policy
    if not isinstance(policy, LanguageActorCriticPolicy):
        raise TypeError(f"{type(agent).__name__} has no distribution over actions: clone a policy gradient's policy.")
    return policy


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Steps of demonstrations, as a policy reads them: N of them."""

    prompts: Tensor
    """Token ids, (N, L), padded with -1."""
    actions: Tensor
    """What is to be done, (N,)."""
    returns: Tensor
    """Discounted, (N,)."""
    weights: Tensor
    """In the cross-entropy, (N,)."""
    value_weights: Tensor
    """In the value function's loss, (N,): 0 where the return is not known."""

    @classmethod
    def of(
        cls, agent: PolicyGradient, demonstrations: Sequence[Demonstration], *, history: int, weigh: Weigh | None
    ) -> Examples:
        """Put the steps of demonstrations into prompts.

        Raises:
            DemonstrationError: if their actions are not the agent's, they lack what it reads, or weights are not one
                for each step.
            TypeError: if the agent's actions are not `Discrete`.
        """
        if not isinstance(agent.action_space, spaces.Discrete):
            raise TypeError(f"Demonstrations are of Discrete actions, but the agent acts in {agent.action_space}.")
        texts = getattr(agent.action_space, "texts", ())
        encoder = policy_of(agent).encoder
        demonstrations = readable(demonstrations, encoder, history=history, texts=texts)
        words: dict[str, list[Any]] = {"instruction": [], "observation": []}
        actions: list[int] = []
        returns: list[float] = []
        weights: list[float] = []
        known: list[float] = []
        for episode in demonstrations:
            for key, values in episode.read(history, texts, auxiliary=encoder.keys).items():
                words.setdefault(key, []).extend(values[:-1])
            actions += episode.targets
            returns += episode.returns(agent.gamma)
            weights_here = list(weigh(episode)) if weigh is not None else [1.0] * len(episode)
            if len(weights_here) != len(episode):
                raise DemonstrationError(f"There are {len(weights_here)} weights for {len(episode)} steps.")
            weights += weights_here
            known += [weight * episode.terminated for weight in weights_here]
        if actions and max(actions) >= agent.action_space.n:
            raise DemonstrationError(
                f"A demonstrated action is {max(actions)}, but the agent has only {agent.action_space.n}."
            )
        return cls(
            prompts=torch.from_numpy(encoder(words)).to(agent.device),
            actions=torch.tensor(actions, device=agent.device),
            returns=torch.tensor(returns, dtype=torch.float32, device=agent.device),
            weights=torch.tensor(weights, dtype=torch.float32, device=agent.device),
            value_weights=torch.tensor(known, dtype=torch.float32, device=agent.device),
        )

    def __len__(self) -> int:
        return len(self.actions)

    def rows(self, rows: Tensor | slice) -> Examples:
        """Return some of them."""
        return Examples(
            prompts=self.prompts[rows],
            actions=self.actions[rows],
            returns=self.returns[rows],
            weights=self.weights[rows],
            value_weights=self.value_weights[rows],
        )

    def shuffled(self, batch_size: int, rng: np.random.Generator) -> Iterator[Examples]:
        """Yield all of them in minibatches of about the same size, in random order."""
        order = torch.from_numpy(rng.permutation(len(self))).to(self.actions.device)
        for rows in order.tensor_split(-(-len(self) // batch_size)):
            yield self.rows(rows)


def _accumulate_gradient(
    policy: LanguageActorCriticPolicy,
    optimizer: torch.optim.Optimizer,
    batch: Examples,
    settings: Cloning,
    micro_batches: MicroBatches,
    ranks: Ranks = ALONE,
) -> tuple[float, float]:
    """Put the gradient of the loss on a minibatch into the parameters; return cross-entropy and value loss."""
    here = _part(batch, ranks)

    def accumulate(parts: Iterator[Rows]) -> tuple[float, float]:
        optimizer.zero_grad()
        cross_entropy, value_loss = 0.0, 0.0
        for rows in parts:
            part = here.rows(rows)
            evaluation = policy.evaluate(part.prompts, part.actions)
            assert evaluation.values is not None
            weights = part.weights / _total(batch.weights)
            imitation = -(weights * evaluation.log_probability).sum()
            errors = (evaluation.values.flatten() - part.returns) ** 2
            regression = (part.value_weights / _total(batch.value_weights) * errors).sum()
            loss = imitation + settings.vf_coef * regression
            if settings.ent_coef:
                assert evaluation.entropy is not None  # of Discrete actions
                loss = loss - settings.ent_coef * (weights * evaluation.entropy).sum()
            loss.backward()
            cross_entropy += imitation.item()
            value_loss += regression.item()
        return cross_entropy, value_loss

    if len(here):
        cross_entropy, value_loss = micro_batches.accumulate(
            lambda: Inputs.of_rows(policy.encoder.layout, here.prompts), accumulate
        )
    else:  # fewer examples are left than there are ranks
        optimizer.zero_grad()
        cross_entropy, value_loss = 0.0, 0.0
    measures = {"cross_entropy": cross_entropy, "value_loss": value_loss}
    measures = ranks.sum_gradients(policy.parameters(), measures)
    require_finite_loss(measures, policy)
    return measures["cross_entropy"], measures["value_loss"]


def _part(examples: Examples, ranks: Ranks = ALONE) -> Examples:
    """Return those that this rank reads."""
    if not ranks.several:
        return examples
    return examples.rows(torch.arange(len(examples), device=examples.actions.device)[ranks.rank :: ranks.count])


def _total(weights: Tensor) -> Tensor:
    return weights.sum().clamp(min=1e-8)


def _measure(policy: LanguageActorCriticPolicy, examples: Examples, ranks: Ranks = ALONE) -> tuple[float, float, float]:
    """Return cross-entropy, accuracy and value loss."""
    here = _part(examples, ranks)
    sums = torch.zeros(3, device=examples.actions.device)
    with torch.no_grad():
        for start in range(0, len(here), EVALUATION_BATCH):
            part = here.rows(slice(start, start + EVALUATION_BATCH))
            reading = policy.read(part.prompts)
            best, _ = policy.action_head.act(reading, greedy=True)
            right = (best == part.actions).float()
            log_probabilities = policy.action_head.evaluate(reading, part.actions).log_probability
            errors = (policy.values_from(reading).flatten() - part.returns) ** 2
            sums += torch.stack(
                [
                    -(part.weights * log_probabilities).sum(),
                    (part.weights * right).sum(),
                    (part.value_weights * errors).sum(),
                ]
            )
    if ranks.several:
        sums = sums.new_tensor(ranks.sums(sums.tolist()))
    totals = torch.stack([_total(examples.weights)] * 2 + [_total(examples.value_weights)])
    cross_entropy, accuracy, value_loss = (sums / totals).tolist()
    return cross_entropy, accuracy, value_loss
