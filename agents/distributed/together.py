"""How several processes begin to train one agent together, each with environments of its own.

They begin with the same weights, and count steps and episodes together (`heed.agents.distributed.counts`). The
algorithms add up their gradients (`heed.agents.distributed.ranks`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, unwrap_vec_wrapper

from heed.agents.distributed.ranks import Ranks
from heed.agents.exploration.intrinsic import IntrinsicRewardVecEnv

if TYPE_CHECKING:
    from heed.agents.agent import LanguageAgent


def begin_together(agent: LanguageAgent) -> None:
    """Let all ranks begin with the same weights, each with environments and random numbers of its own.

    Raises:
        ValueError: if the environments are not shares of a larger vector, or what they remember cannot be shared.
    """
    ranks = agent.ranks
    if agent.env is not None:
        require_shares(ranks, agent.env)
    ranks.broadcast(agent.weights())
    own_seed = ranks.seed(agent.seed)
    if not ranks.is_first and own_seed is not None:
        # Minibatches and actions are drawn anew in each rank; the weights were drawn alike.
        set_random_seed(own_seed, using_cuda=agent.device.type == "cuda")
        agent.action_space.seed(own_seed)


def require_shares(ranks: Ranks, env: VecEnv) -> None:
    """Refuse environments that are no shares of a larger vector, or remember what cannot be shared; called by all.

    Raises:
        ValueError: saying why.
    """
    shares = ranks.gather((env.num_envs, getattr(env.unwrapped, "first_index", None)))
    sizes = [size for size, _ in shares]
    if len(set(sizes)) > 1:
        raise ValueError(f"Each process must have as many environments as any other, but they have {sizes}.")
    if any(first not in (None, rank * sizes[0]) for rank, (_, first) in enumerate(shares)):
        raise ValueError(
            "The processes would play the same episodes: make the environments of each with "
            f"heed.envs.make(..., n_envs={sizes[0]}, first_index=ranks.rank * {sizes[0]})."
        )
    if unwrap_vec_wrapper(env, IntrinsicRewardVecEnv) is not None:
        raise ValueError(
            "Rewards for what is new cannot be had in several processes: each would know only what it has seen "
            "itself. Train in one process, or without them."
        )
    if unwrap_vec_wrapper(env, VecNormalize) is not None:
        raise ValueError(
            "VecNormalize would scale the rewards of each process in a unit of its own: use "
            "heed.agents.rollouts.scaled_rewards.ScaledRewardsVecEnv, which scales by the returns of all of them."
        )
