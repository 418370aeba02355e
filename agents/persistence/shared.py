"""What of an agent is shared: its language model as transformers has it, and beside that what makes it an agent.

    OUT/
      config.json, model.safetensors, tokenizer.json, ...   the language model: `from_pretrained(OUT)` loads it
      heed/
        manifest.json            size and SHA-256 of the other files here
        agent.json               class, arguments, prompts and action space, as in a checkpoint
        heads.safetensors        value, linear head and senses: all of the policy that is not its language model
        exploration.safetensors  DQN only: what its exploration knows

`heed/` is a checkpoint without what only a training needs (optimizer, replay buffer, random states), and whose language
model stands one folder above: the same code writes, verifies and loads it. The manifest names the files of `heed/`
alone, so the model card may be edited and the language model be tuned further.

`heads_of`, `set_heads` and `language_model_of` know how a policy is made up of language model and heads. An adapter
stands in the language model's place as `peft` loads it (`adapter_config.json`, `adapter_model.safetensors`), and among
the heads; the language model is loaded from where it came from.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from torch import Tensor

from heed.agents.persistence.checkpoint import CheckpointError
from heed.policies.adapters.adapters import is_of_adapter
from heed.policies.language_policy import LanguagePolicy
from heed.policies.models.language_model import LanguageModel

SHARED = "heed"
"""The folder beside a shared language model that holds the rest of its agent."""

HEADS = "heads.safetensors"
"""All of a policy's weights that are not its language model's."""

_OF_LANGUAGE_MODEL = "network.model."
"""How the names of the language model's weights begin in a policy."""


def home_of(folder: Path) -> Path:
    """Return where the files of an agent stand: of one that was shared in a folder of their own, else in `folder`."""
    return folder / SHARED if (folder / SHARED / "agent.json").is_file() else folder


def shared_name(name: str) -> str:
    """Return the name of a language model without the folders of whoever trained it; a hub id stays as it is."""
    path = Path(name).expanduser()
    return path.name if path.is_absolute() or path.is_dir() or name.startswith(".") else name


def language_model_of(policy: LanguagePolicy) -> LanguageModel:
    """Return the language model as the policy has trained it, with the template of the policy's prompts."""
    trained: Any = policy.acting
    return dataclasses.replace(policy.language_model, model=trained.network.model, template=policy.encoder.template)


def heads_of(policy: LanguagePolicy) -> dict[str, Tensor]:
    """Return the weights of the acting policy that are not its language model's, but with those of an adapter."""
    weights = policy.acting.state_dict()
    adapted = policy.language_model.adapter is not None
    return {
        name: tensor
        for name, tensor in weights.items()
        if not name.startswith(_OF_LANGUAGE_MODEL) or (adapted and is_of_adapter(name))
    }


def set_heads(policy: LanguagePolicy, heads: dict[str, Tensor], path: Path) -> None:
    """Put back what `heads_of` gave.

    Args:
        policy: whose heads they become.
        heads: weights by name.
        path: where they were read, for the error.

    Raises:
        CheckpointError: if they are not the heads of such a policy.
    """
    own = heads_of(policy)
    wrong = sorted(set(own) ^ set(heads)) or [name for name in sorted(own) if own[name].shape != heads[name].shape]
    if wrong:
        raise CheckpointError(f"{path} does not fit the agent: {wrong[0]!r} is missing, of another shape, or too much.")
    policy.acting.load_state_dict(heads, strict=False)
