"""Checkpoints of a stranger, for tests: files that are changed, and a manifest that says it is all right."""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from heed.agents import AGENTS
from heed.agents.persistence.checkpoint import FORMAT
from heed.envs import LanguageVecEnv
from tests.places import Places

SPECIAL = {"pad_token": "<pad>", "eos_token": "<end>", "unk_token": "<unk>"}
WORDS = ["be", "go", "stay", "left", "middle", "right", "you", "are", "Instruction", "Observation", "Action", ":"]
ARGUMENTS: dict[str, dict[str, Any]] = {
    "ppo": {"n_steps": 8, "batch_size": 8, "n_epochs": 1},
    "dqn": {"buffer_size": 64, "learning_starts": 4, "batch_size": 4, "gradient_steps": 1},
    "q-learning": {},
}
"""Of the agents that there are small checkpoints of, each after 32 steps."""
_HOME = tempfile.TemporaryDirectory()


@functools.cache
def small_model() -> Path:
    """Return the folder of a language model of one layer that knows the words of `Places`."""
    folder = Path(_HOME.name) / "small-model"
    vocabulary = {word: index for index, word in enumerate([*SPECIAL.values(), *WORDS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL).save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@functools.cache
def small_checkpoint(name: str) -> Path:
    """Return a small checkpoint, which must not be changed."""
    arguments = ARGUMENTS[name]
    if name != "q-learning":
        arguments = {**arguments, "policy_kwargs": {"model": str(small_model()), "max_prompt_tokens": 24}}
    agent: Any = AGENTS[name](env=LanguageVecEnv([Places] * 2, seed=0), seed=0, **arguments)
    agent.learn(32)
    folder = Path(_HOME.name) / name
    agent.save(folder)
    return folder


def copy_of(name: str, to: Path) -> Path:
    """Return a copy of a small checkpoint, which may be changed."""
    return Path(shutil.copytree(small_checkpoint(name), to / name))


def sign(folder: Path) -> None:
    """Have the manifest name all files as they are now, as whoever made them would."""
    files = [path for path in folder.rglob("*") if path.is_file() and path != folder / "manifest.json"]
    digests = {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in files
    }
    (folder / "manifest.json").write_text(json.dumps({"format": FORMAT, "files": digests}))


def change_json(folder: Path, name: str, change: Callable[[Any], Any]) -> None:
    """Change a JSON file of a checkpoint, in place or by what is returned, and sign it."""
    content = json.loads((folder / name).read_text())
    changed = change(content)
    (folder / name).write_text(json.dumps(content if changed is None else changed))
    sign(folder)


def put(path: str, value: Any) -> Callable[[Any], None]:
    """Return a change that puts `value` where a path of keys, "a/b/c", leads."""

    def change(content: Any) -> None:
        *folders, last = path.split("/")
        for key in folders:
            content = content[key]
        content[last] = value

    return change
