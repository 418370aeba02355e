"""How deep Q-learning learns from demonstrations, after DQfD (Hester et al. 2018, arXiv 1704.03732).

They stay in the replay buffer, with a large-margin loss and a first phase on them alone if wished. DQfD adds one-step
to n-step targets and an L2 penalty; here there are n-step targets alone, and `optimizer_kwargs` takes a
`weight_decay`.
"""

from __future__ import annotations

from collections.abc import Sequence

from gymnasium import spaces
from torch import Tensor

from heed.agents.distributed.ranks import Ranks
from heed.agents.imitation.readable_demonstrations import readable
from heed.agents.replay.buffer import Batch, ReplayBuffer
from heed.envs.demonstrations.demonstrations import Demonstration
from heed.policies.prompts.prompt import PromptEncoder


def keep_demonstrations(
    buffer: ReplayBuffer,
    demonstrations: Sequence[Demonstration],
    *,
    encoder: PromptEncoder,
    action_space: spaces.Discrete,
    history: int,
    ranks: Ranks,
) -> None:
    """Put demonstrations into a replay buffer, where they stay.

    Of several ranks, which all are given the same ones, each keeps its part of them.

    Args:
        buffer: that holds nothing but demonstrations yet.
        demonstrations: episodes that an expert played, with the agent's actions.
        encoder: makes the prompts that the agent reads.
        action_space: of the agent.
        history: of the environments, where they show one.
        ranks: the processes that train the agent.

    Raises:
        ValueError: if there are none, or not one for each rank, one has actions that the agent has not or labels
            instead of an expert's actions, or they do not fit into the buffer beside others.
        DemonstrationError: if they lack what the agent reads.
    """
    if not demonstrations:
        raise ValueError("There are no demonstrations.")
    if len(demonstrations) < ranks.count:
        raise ValueError(f"There are {len(demonstrations)} demonstrations for {ranks.count} processes: each needs one.")
    texts = getattr(action_space, "texts", tuple(map(str, range(int(action_space.n)))))
    for demonstration in demonstrations:
        if demonstration.labels is not None:
            raise ValueError("These episodes were not played by the expert that labelled them: clone them instead.")
        if any(not 0 <= action < action_space.n for action in demonstration.actions):
            raise ValueError(f"A demonstration has an action that is not in {action_space}.")
    for demonstration in ranks.part(readable(demonstrations, encoder, history=history, texts=texts)):
        buffer.keep_episode(
            encoder(demonstration.read(history, texts, auxiliary=encoder.keys)),
            demonstration.actions,
            demonstration.rewards,
            terminated=demonstration.terminated,
        )


def margin_loss(q_values: Tensor, batch: Batch, margin: float) -> Tensor:
    """Return J_E of DQfD, equation 3: by how much demonstrated actions are not better than others by the margin, ().

    Args:
        q_values: (B, A).
        batch: of B transitions; those that nobody demonstrated count as 0.
        margin: by how much a demonstrated action's value is to exceed the others'.
    """
    others = q_values + margin
    others = others.scatter(1, batch.actions, q_values.gather(1, batch.actions))
    short = others.max(dim=1, keepdim=True).values - q_values.gather(1, batch.actions)
    return (batch.weights * batch.demonstrated * short).mean()
