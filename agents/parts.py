"""What an agent has besides its policy: a replay buffer, exploration, hindsight, groups, a reference policy.

A part is an object of its own. The agent tells it what happens (`heed.agents.agent.Agent`), and asks it for its files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


class Part:
    """Something that lives as long as its agent; it overrides what concerns it.

    Of several processes each has its own, with files of its own in a checkpoint, unless `is_shared`.
    """

    is_shared: bool = False
    """Whether all processes have the same one, which the first writes for all of them."""

    def uses(self, env: Any) -> None:
        """Take notice of other environments, whose episodes begin anew."""

    def interrupted(self) -> None:
        """End, as truncated, what is kept of episodes that are not played on."""

    def write(self, folder: Path) -> None:
        """Write what a training goes on from into a checkpoint."""

    def read(self, folder: Path, saved: dict[str, Any]) -> None:
        """Put back what `write` wrote; `saved` is the checkpoint's `agent.json`.

        Raises:
            CheckpointError: if it does not fit.
        """

    def write_export(self, folder: Path) -> None:
        """Write what a shared agent's actions hang on."""

    def read_export(self, folder: Path, saved: dict[str, Any]) -> None:
        """Put back what `write_export` wrote, before a training that begins there."""
