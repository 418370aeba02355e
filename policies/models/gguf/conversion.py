"""Language models in GGUF files, llama.cpp's format: converted once into a folder that transformers loads in a moment.

transformers reads such a file slowly, and its rounded weights cannot train. So they are computed in float32 once and
saved as safetensors, with configuration and tokenizer, in the cache folder: `HEED_CACHE`, or `heed` in
`XDG_CACHE_HOME`, or `~/.cache/heed`. A conversion belongs to the file's content, wherever the file lies; there is no
network in it.

A conversion is written under another name and renamed, so nobody ever sees half of one. Two processes may convert the
same file at once: the first to be done wins, and the other takes what is there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import unset_fake_temporarily
from transformers import AutoConfig, AutoTokenizer, GgufConfig

from heed.policies.models.model_folder import ModelFilesError, first_line
from heed.policies.models.pretrained import auto_class, quietly

CACHE_VARIABLE = "HEED_CACHE"
"""The environment variable that names another cache folder."""

SUFFIX = ".gguf"
NEEDED = ("gguf", "accelerate")
"""Packages with which transformers reads such a file."""

_MAGIC = b"GGUF"
_CARD = "conversion.json"
_VERSION = 1
"""Of what a conversion is; one of another version is converted anew."""
_TEMPORARY = ".converting-"
_LEFT_BEHIND = 24 * 3600.0
"""Seconds after which what a killed conversion left is removed by the next one."""


def cache_folder() -> Path:
    """Return where conversions are kept; it need not exist yet."""
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "heed"


def converted_folder(file: Path) -> Path:
    """Return the folder that a GGUF file is converted into, as transformers loads it; convert it if nobody has.

    Raises:
        ModelFilesError: if the file is no GGUF file, of an architecture or quantization that transformers does not
            read, or not whole; if packages are missing, or the cache folder cannot be written.
    """
    digest = _digest(file)
    folder = cache_folder() / "gguf" / f"{file.stem}-{digest[:16]}"
    if not _is_whole(folder, digest):
        _require_packages()
        _convert(file, digest, folder)
    return folder


def _digest(file: Path) -> str:
    """Return the SHA-256 of a GGUF file."""
    with file.open("rb") as stream:
        if stream.read(len(_MAGIC)) != _MAGIC:
            raise ModelFilesError(f"{file.name} does not begin as a GGUF file does: was all of it copied?")
    return _sha256(file)


def _require_packages() -> None:
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ModelFilesError(f"a GGUF file needs the packages {' and '.join(missing)}: pip install gguf accelerate")


def _is_whole(folder: Path, digest: str) -> bool:
    """Say whether a folder holds the conversion of a file, undamaged and of this version."""
    try:
        card = json.loads((folder / _CARD).read_text(encoding="utf-8"))
        if card["version"] != _VERSION or card["source"] != digest:
            return False
        return all(_is_same(folder / name, described) for name, described in card["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _is_same(file: Path, described: dict[str, Any]) -> bool:
    """Say whether a file is as it was written; its content is read only where its time says that it may not be."""
    found = file.stat()
    if found.st_size != described["size"]:
        return False
    return bool(found.st_mtime_ns == described["mtime_ns"] or _sha256(file) == described["sha256"])


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while part := stream.read(2**20):
            digest.update(part)
    return digest.hexdigest()


def _describe(file: Path) -> dict[str, Any]:
    found = file.stat()
    return {"size": found.st_size, "mtime_ns": found.st_mtime_ns, "sha256": _sha256(file)}


def _convert(file: Path, digest: str, folder: Path) -> None:
    """Convert a file into a folder that is there, whole, when this returns."""
    with _writing(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_left_behind(folder.parent)
        temporary = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=folder.parent))
    try:
        _tell(
            f"Converting {file.name} ({file.stat().st_size / 2**20:.0f} MB) into {folder}, once: half a minute or so."
        )
        began = time.monotonic()
        _write(file, temporary)
        with _writing(folder.parent):
            card = {
                "version": _VERSION,
                "source": digest,
                "files": {path.name: _describe(path) for path in sorted(temporary.iterdir())},
            }
            (temporary / _CARD).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
            _put(temporary, folder, digest)
        _tell(f"Converted in {time.monotonic() - began:.0f} s. From now on it is loaded in a moment.")
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(file: Path, folder: Path) -> None:
    """Write what a GGUF file holds into a folder, as transformers saves it, in float32."""
    source: dict[str, Any] = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    source |= {"local_files_only": True, "trust_remote_code": False}
    # Whoever estimates memory is in a mode, or on a device, where tensors have no numbers.
    with unset_fake_temporarily(), torch.device("cpu"), quietly():
        try:
            config = AutoConfig.from_pretrained(**source)
            # Without this, the weights would stay rounded: they could neither train nor be saved.
            plain = GgufConfig(dequantize=True)
            model, found = auto_class(config).from_pretrained(
                **source, config=config, dtype=torch.float32, quantization_config=plain, output_loading_info=True
            )
            tokenizer = AutoTokenizer.from_pretrained(**source)
        except (OSError, MemoryError):
            raise
        except Exception as error:  # whatever transformers and gguf make of a file that is damaged, or of a new kind
            raise ModelFilesError(_explained(error)) from error
        if missing := sorted(found["missing_keys"]):
            raise ModelFilesError(f"{missing[0]!r} and {len(missing) - 1} more of its weights are missing in the file")
        with _writing(folder):
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)


def _explained(error: Exception) -> str:
    told = first_line(error)
    if "not supported" in told or "Unrecognized" in told:
        return (
            f"transformers reads no GGUF file of this architecture or quantization ({told.rstrip('.')}): give the "
            "model's folder with safetensors instead"
        )
    return f"it cannot be read as a GGUF file of a language model ({type(error).__name__}: {told})"


def _put(temporary: Path, folder: Path, digest: str) -> None:
    """Give a finished conversion its name, unless another process was faster; one that is damaged goes."""
    if folder.exists() and not _is_whole(folder, digest):
        aside = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=folder.parent))
        with contextlib.suppress(FileNotFoundError):
            os.replace(folder, aside)
        shutil.rmtree(aside, ignore_errors=True)
    try:
        os.rename(temporary, folder)
    except OSError:
        if not _is_whole(folder, digest):
            raise


def _remove_left_behind(folder: Path) -> None:
    for path in folder.glob(f"{_TEMPORARY}*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _LEFT_BEHIND:
                shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Turn what goes wrong when the cache is written into a sentence."""
    try:
        yield
    except OSError as error:
        raise ModelFilesError(
            f"its conversion cannot be written into {folder} ({error.strerror or error}): set {CACHE_VARIABLE} to a "
            "folder with room for its weights, four bytes each"
        ) from error


def _tell(sentence: str) -> None:
    """Tell whoever waits, where it mixes with no result."""
    print(sentence, file=sys.stderr, flush=True)
