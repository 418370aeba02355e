"""Sharing an agent: a folder that Heed loads as an agent, and transformers as a language model.

    OUT/
      config.json, model.safetensors, tokenizer.json, ...   the language model: `from_pretrained(OUT)` loads it
      heed/
        manifest.json            size and SHA-256 of the other files here
        agent.json               class, arguments, prompts and action space, as in a checkpoint
        heads.safetensors        value, linear head and modalities: all of the policy that is not its language model
        exploration.safetensors  DQN only: what its exploration knows

`heed/` is a checkpoint without what only a training needs (optimizer, replay buffer, random states), and whose language
model stands one folder above: the same code writes, verifies and loads it. The manifest names the files of `heed/`
alone, so the model card may be edited and the language model be tuned further.

An adapter stands in the language model's place as `peft` loads it (`adapter_config.json`, `adapter_model.safetensors`),
and among the heads; the language model is loaded from where it came from.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

from heed.agents.agent import LanguageAgent
from heed.agents.persistence.checkpoint import write_checkpoint, write_json, write_tensors
from heed.agents.persistence.saved_policy import HEADS, describe_policy, heads_of, language_model_of
from heed.agents.persistence.saving import SHARED, describe
from heed.agents.policy_agent import LanguagePolicyAgent


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
    add_to_model: Callable[[Path], None] = _nothing,
    add_to_agent: Callable[[Path], None] = _nothing,
) -> None:
    """Write an agent into the folder `path` to be shared.

    It is written beside its place and moved there when it is whole.

    Args:
        agent: has a language model.
        path: need not be there yet.
        add_to_model: writes more into the folder that it is given, where the language model stands: a model card.
        add_to_agent: the same for the folder of the agent's own files, whose manifest names what it wrote.

    Raises:
        FileExistsError: if something stands at `path`.
        TypeError: if the agent has no language model, or an argument cannot be written as JSON.
        OSError: if the disk does not take it.
        NonFiniteError: if a weight is not finite.
    """
    folder = Path(path)
    require_free(folder)
    if not isinstance(agent, LanguagePolicyAgent):
        raise TypeError(f"{type(agent).__name__} has no language model to be shared: use save().")
    language_model = language_model_of(agent.language_policy)
    agent.require_finite()
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.parent / f".{folder.name}.{uuid.uuid4().hex[:8]}.partial"
    temporary.mkdir()

    def fill(home: Path) -> None:
        _write_agent(agent, home)
        add_to_agent(home)

    try:
        language_model.share(temporary)
        write_checkpoint(temporary / SHARED, fill)
        add_to_model(temporary)
        temporary.rename(folder)  # an empty folder in its place is replaced
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def shared_name(name: str) -> str:
    """Return the name of a language model without the folders of whoever trained it; a hub id stays as it is."""
    path = Path(name).expanduser()
    return path.name if path.is_absolute() or path.is_dir() or name.startswith(".") else name


def _write_agent(agent: LanguagePolicyAgent, folder: Path) -> None:
    """Write what a shared agent needs besides its language model: heads, and what else its actions hang on."""
    write_tensors(folder / HEADS, heads_of(agent.language_policy))
    described = {**describe(agent), **describe_policy(agent.language_policy, agent.policy_kwargs), "shared": True}
    described["language_model"]["name"] = shared_name(described["language_model"]["name"])
    write_json(folder / "agent.json", described)
    for part in agent.parts():
        part.write_export(folder)
