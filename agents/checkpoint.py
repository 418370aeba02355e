"""Checkpoints: folders of JSON and safetensors. Loading one cannot run code.

    checkpoint/
      manifest.json              format, and size and SHA-256 of every other file
      agent.json                 class, arguments, counters, random states, environments
      policy.safetensors         weights
      optimizer.safetensors      the optimizer's tensors (its numbers are in agent.json)
      random.safetensors         torch's random state
      replay_buffer.safetensors  DQN only: the replay buffer, with numbers in replay_buffer.json
      exploration.json           DQN only: the random state of exploration
      hindsight.json             DQN with hindsight only: the running episodes that it watches
      episodes.safetensors       GRPO only: steps that wait for their group
      ranks.safetensors          AdaLoRA only: what it has measured of its ranks
      language_model/            configuration and tokenizer, as transformers writes them

A checkpoint is written beside its place and moved there when it is whole, so a crash leaves the last good one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

FORMAT = 1
MANIFEST = "manifest.json"


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged or of another kind. The message names the file."""


def write_checkpoint(folder: Path, fill: Callable[[Path], None]) -> None:
    """Write a checkpoint: `fill` writes its files into a temporary folder, which then takes the name `folder`.

    An older checkpoint of that name is replaced; what else stands there is not.

    Raises:
        FileExistsError: if `folder` is there and is no checkpoint.
        OSError: if the disk does not take it; what was there before stays.
    """
    if folder.exists() and not (folder / MANIFEST).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} exists and is no checkpoint: it is left as it is. Save under another name.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.parent / f".{folder.name}.{uuid.uuid4().hex[:8]}.partial"
    temporary.mkdir()
    try:
        fill(temporary)
        write_json(temporary / MANIFEST, {"format": FORMAT, "files": _digests(temporary)})
        for path in [*temporary.rglob("*"), temporary]:
            _flush_to_disk(path)
        if folder.exists():
            old = folder.parent / f".{folder.name}.{uuid.uuid4().hex[:8]}.old"
            folder.rename(old)
            temporary.rename(folder)
            shutil.rmtree(old)
        else:
            temporary.rename(folder)
        _flush_to_disk(folder.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def verify_checkpoint(folder: Path) -> None:
    """Check that a checkpoint is whole and unchanged.

    Raises:
        CheckpointError: in a sentence that names the file that is missing, cut off or changed.
    """
    if not folder.is_dir():
        raise CheckpointError(f"There is no checkpoint folder {folder}.")
    manifest = read_json(folder / MANIFEST)
    if (
        not isinstance(manifest, dict)
        or manifest.get("format") != FORMAT
        or not isinstance(manifest.get("files"), dict)
    ):
        raise CheckpointError(f"{folder / MANIFEST} is not of checkpoint format {FORMAT}, the one this version reads.")
    present = _digests(folder)
    for name, expected in manifest["files"].items():
        if name not in present:
            raise CheckpointError(f"{folder / name} is missing: the checkpoint is not whole.")
        if present[name]["bytes"] < expected["bytes"]:
            raise CheckpointError(
                f"{folder / name} is cut off: it has {present[name]['bytes']} bytes of {expected['bytes']}."
            )
        if present[name] != expected:
            raise CheckpointError(f"{folder / name} was changed since it was saved (its SHA-256 differs).")
    for name in sorted(set(present) - set(manifest["files"])):
        raise CheckpointError(f"{folder / name} does not belong to this checkpoint: its manifest does not name it.")


def write_json(path: Path, content: Any) -> None:
    """Write `content` as JSON; numbers that JSON lacks (infinity, not-a-number) are refused."""
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        CheckpointError: if the file is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is damaged: {error}.") from None


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write named tensors as safetensors; tensors that share memory are written apart."""
    save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, path)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        CheckpointError: if the file is missing or damaged.
    """
    try:
        return load_file(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing.") from None
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged: {error}.") from None


def _digests(folder: Path) -> dict[str, dict[str, Any]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    return {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in files
    }


def _flush_to_disk(path: Path) -> None:
    """Have the system write a file or folder out, so that the rename never comes before the content."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
