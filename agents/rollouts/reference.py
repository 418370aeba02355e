"""The policy that a training began with, as a part of its agent: the loss may hold the policy near it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from heed.agents.parts import Part
from heed.agents.persistence.checkpoint import read_tensors, write_tensors
from heed.agents.persistence.saved_policy import put_back, weights_to_save
from heed.policies.actor_critic import LanguageActorCriticPolicy

FILE = "reference.safetensors"
"""Its file in a checkpoint."""


class Reference(Part):
    """Saves a reference policy with its agent, and renews it where a training begins from a shared one.

    Args:
        reference: the frozen policy.
        policy: the one that trains.
    """

    is_shared = True

    def __init__(self, reference: LanguageActorCriticPolicy, policy: LanguageActorCriticPolicy):
        self.reference = reference
        self._policy = policy

    def renew(self) -> None:
        """Let the reference be the policy as it is now."""
        self.reference.load_state_dict(self._policy.state_dict())

    def write(self, folder: Path) -> None:
        """Write its weights."""
        write_tensors(folder / FILE, weights_to_save(self.reference))

    def read(self, folder: Path, saved: dict[str, Any]) -> None:
        """Put them back."""
        put_back(self.reference, read_tensors(folder / FILE), folder / FILE)

    def read_export(self, folder: Path, saved: dict[str, Any]) -> None:
        """Begin with the policy that was shared."""
        self.renew()
