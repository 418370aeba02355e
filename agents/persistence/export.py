"""Sharing an agent: a folder that Heed loads as an agent, and transformers as a language model."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

from heed.agents.agent import LanguageAgent
from heed.agents.persistence.checkpoint import write_checkpoint
from heed.agents.persistence.shared import SHARED, language_model_of
from heed.policies.language_policy import LanguagePolicy


def _nothing(folder: Path) -> None:
    """Write nothing."""


def require_free(folder: Path) -> None:
    """Refuse a place that is taken.

    Raises:
        FileExistsError: if `folder` is there and not an empty folder.
    """
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise FileExistsError(f"{folder} exists and is not an empty folder: it is left as it is. Give another.")


def export(
    agent: LanguageAgent,
    path: Path | str,
    *,
    beside_model: Callable[[Path], None] = _nothing,
    beside_agent: Callable[[Path], None] = _nothing,
) -> None:
    """Write an agent into the folder `path` to be shared; `heed.agents.persistence.shared` says what is in it.

    It is written beside its place and moved there when it is whole.

    Args:
        agent: has a language model.
        path: need not be there yet.
        beside_model: writes more into the folder that it is given, where the language model stands: a model card.
        beside_agent: the same for the folder of the agent's own files, whose manifest names what it wrote.

    Raises:
        FileExistsError: if something stands at `path`.
        TypeError: if the agent has no language model, or an argument cannot be written as JSON.
        OSError: if the disk does not take it.
        NonFiniteError: if a weight is not finite.
    """
    folder = Path(path)
    require_free(folder)
    policy = getattr(agent, "policy", None)  # a table has none
    if not isinstance(policy, LanguagePolicy):
        raise TypeError(f"{type(agent).__name__} has no language model to be shared: use save().")
    language_model = language_model_of(policy)
    agent.require_finite()
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.parent / f".{folder.name}.{uuid.uuid4().hex[:8]}.partial"
    temporary.mkdir()

    def fill(home: Path) -> None:
        agent._write_shared(home)
        beside_agent(home)

    try:
        language_model.share(temporary)
        write_checkpoint(temporary / SHARED, fill)
        beside_model(temporary)
        temporary.rename(folder)  # an empty folder in its place is replaced
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
