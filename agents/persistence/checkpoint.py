"""Checkpoints: folders of JSON and safetensors. Loading one cannot run code.

    checkpoint/
      manifest.json              format, the version that wrote it, and size and SHA-256 of every other file
      agent.json                 class, arguments, counters, random states, environments
      policy.safetensors         weights
      optimizer.safetensors      the optimizer's tensors (its numbers are in agent.json)
      random.safetensors         torch's random state
      replay_buffer.safetensors  DQN only: the replay buffer, with numbers in replay_buffer.json
      exploration.json           DQN only: the random state of exploration
      hindsight.json             DQN with hindsight only: the running episodes that it watches
      episodes.safetensors       GRPO only: steps that wait for their group
      ranks.safetensors          AdaLoRA only: what it has measured of its ranks
      rank-1/ ...             several processes only: what each but the first has of its own
      language_model/            configuration and tokenizer, as transformers writes them

A checkpoint is written beside its place and moved there when it is whole, so a crash leaves the last good one. What a
checkpoint may hold is checked before anything is made of it: here its files, in `heed.agents.persistence.untrusted`
their content. There is one format: a checkpoint of any other is refused.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

FORMAT = 3
"""The format that is written and read; whatever changes what a checkpoint holds makes it another."""
MANIFEST = "manifest.json"
SUFFIXES = (".json", ".jsonl", ".safetensors", ".jinja", ".txt", ".model", ".spm", ".tiktoken", ".codes", ".bpe")
"""Of the files in a checkpoint: JSON, tensors, and what tokenizers keep their vocabularies in."""

_HASHED_AT_ONCE = 2**20
"""Bytes; a large file need not fit into memory to be checked."""


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged, of another kind, or holds what it must not. The message names the file."""


class CheckpointFormatError(CheckpointError):
    """A checkpoint is of another format than the one that is read here. The message says which version wrote it."""


def write_checkpoint(folder: Path, fill: Callable[[Path], None]) -> None:
    """Write a checkpoint: `fill` writes its files into a temporary folder, which then takes the name `folder`.

    An older checkpoint of that name is replaced; what else stands there is not.

    Raises:
        FileExistsError: if `folder` is there and is no checkpoint, or is a symbolic link.
        OSError: if the disk does not take it; what was there before stays.
    """
    if folder.is_symlink():
        raise FileExistsError(f"{folder} is a symbolic link: give the folder that it leads to.")
    if folder.exists() and not (folder / MANIFEST).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} exists and is no checkpoint: it is left as it is. Save under another name.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = _sibling(folder, "partial")
    temporary.mkdir()
    try:
        fill(temporary)
        write_json(temporary / MANIFEST, {"format": FORMAT, "heed": heed_version(), "files": _digests(temporary)})
        for path in [*temporary.rglob("*"), temporary]:
            flush_to_disk(path)
        if folder.exists():
            old = _sibling(folder, "old")
            folder.rename(old)
            temporary.rename(folder)
            shutil.rmtree(old)
        else:
            temporary.rename(folder)
        flush_to_disk(folder.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def left_behind(folder: Path) -> list[Path]:
    """Return what writings of the checkpoint `folder` left beside it that were interrupted: half-written and replaced.

    In a name that ends in `.old` stands a whole checkpoint; it is needed where `folder` itself is missing.
    """
    name = re.compile(rf"\.{re.escape(folder.name)}\.[0-9a-f]{{8}}\.(partial|old)")
    there = folder.parent.iterdir() if folder.parent.is_dir() else ()
    return sorted(path for path in there if name.fullmatch(path.name) and path.is_dir() and not path.is_symlink())


def verify_checkpoint(folder: Path) -> None:
    """Check that a checkpoint is whole and unchanged, and holds nothing but plain files of the kinds it may have.

    Raises:
        CheckpointFormatError: if it is of a format that this version does not read.
        CheckpointError: in a sentence that names the file that is missing, cut off, changed, or must not be there.
    """
    if not folder.is_dir():
        if folder.is_file():
            raise CheckpointError(
                f"{folder} is a file, but a checkpoint is a folder. If Stable-Baselines3 saved it, it holds pickles, "
                "which can run code: it is not loaded, and belongs to an agent of another kind."
            )
        if folder.suffix == ".zip" and folder.with_suffix("").is_dir():
            raise CheckpointError(
                f"There is no checkpoint folder {folder}, but there is {folder.with_suffix('')}: a checkpoint has the "
                "name that save() was given, without .zip."
            )
        replaced = [path for path in left_behind(folder) if path.suffix == ".old" and (path / MANIFEST).is_file()]
        raise CheckpointError(
            f"There is no checkpoint folder {folder}."
            + (f" It was being replaced; the one before is whole: {replaced[-1]}. Rename it." if replaced else "")
        )
    files = _files_by_name(folder)
    expected = _read_manifest(folder)
    for name, digest in expected.items():
        if name not in files:
            raise CheckpointError(f"{folder / name} is missing: the checkpoint is not whole.")
        size = files[name].stat().st_size
        if size < digest["bytes"]:
            raise CheckpointError(f"{folder / name} is cut off: it has {size} bytes of {digest['bytes']}.")
        if size != digest["bytes"] or _sha256(files[name]) != digest["sha256"]:
            raise CheckpointError(f"{folder / name} was changed since it was saved (its SHA-256 differs).")
    for name in sorted(set(files) - set(expected)):
        raise CheckpointError(f"{folder / name} does not belong to this checkpoint: its manifest does not name it.")


def _read_manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """Return size and digest of every file by name.

    Raises:
        CheckpointError: if the manifest is missing or damaged, of another format, or names what is no file in here.
    """
    path = folder / MANIFEST
    manifest = read_json(path)
    if not isinstance(manifest, dict) or not isinstance(manifest.get("format"), int):
        raise CheckpointError(f"{path} is no checkpoint's manifest: it names no format.")
    if manifest["format"] != FORMAT:
        writer = manifest.get("heed")
        known = isinstance(writer, str) and re.fullmatch(r"[\w.+-]{1,40}", writer)
        raise CheckpointFormatError(
            f"{path} is of checkpoint format {manifest['format']}, but heed {heed_version()} reads format {FORMAT}. "
            f"Install {f'heed {writer}, which wrote it' if known else 'the version that wrote it'}."
        )
    files = manifest.get("files")
    if not isinstance(files, dict):
        raise CheckpointError(f"{path} is damaged: it lists no files.")
    for name, digest in files.items():
        parts = name.split("/")
        if not name or "\\" in name or "\0" in name or any(part in ("", ".", "..") for part in parts):
            raise CheckpointError(f"{path} names {name!r}, which is no file within the checkpoint: it is not used.")
        if not (
            isinstance(digest, dict) and isinstance(digest.get("bytes"), int) and isinstance(digest.get("sha256"), str)
        ):
            raise CheckpointError(f"{path} is damaged: it does not tell size and SHA-256 of {name!r}.")
    return files


def _plain_files(folder: Path) -> Iterator[Path]:
    """Yield all files of a checkpoint.

    Raises:
        CheckpointError: if there is a link, a device, or a file of a kind that no checkpoint holds.
    """
    for path in sorted(Path(entry.path) for entry in os.scandir(folder)):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            raise CheckpointError(
                f"{path} is a symbolic link: a checkpoint holds files of its own, and is not read through links."
            )
        if stat.S_ISDIR(mode):
            yield from _plain_files(path)
        elif not stat.S_ISREG(mode):
            raise CheckpointError(f"{path} is no plain file: a checkpoint holds nothing else.")
        elif path.suffix not in SUFFIXES:
            raise CheckpointError(
                f"{path} does not belong to a checkpoint: its files are JSON, safetensors and what tokenizers need "
                f"({', '.join(SUFFIXES)}), which cannot run code."
            )
        else:
            yield path


def write_json(path: Path, content: Any) -> None:
    """Write `content` as JSON; numbers that JSON lacks (infinity, not-a-number) are refused."""
    path.write_text(as_json_text(content), encoding="utf-8")


def as_json_text(content: Any) -> str:
    """Return `content` as `write_json` writes it."""
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        CheckpointError: if the file is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing.") from None
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, a number too long, or nested too deeply
        raise CheckpointError(f"{path} is damaged: {_if_pickled(path) or error}.") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write named tensors as safetensors; tensors that share memory are written apart.

    Raises:
        OSError: if the disk does not take them.
    """
    try:
        save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:
        # The library tells the system's errors by their number only.
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file. Its header's shapes are held against its size before memory is taken for them.

    Raises:
        CheckpointError: if the file is missing or damaged.
    """
    with _telling_what_is_wrong(path):
        return load_file(path)


def tensor_names(path: Path) -> list[str]:
    """Return the names of the tensors in a safetensors file, without reading them.

    Raises:
        CheckpointError: if the file is missing or damaged.
    """
    with _telling_what_is_wrong(path), safe_open(path, framework="pt") as file:
        return list(file.keys())


@contextlib.contextmanager
def _telling_what_is_wrong(path: Path) -> Iterator[None]:
    """Turn what goes wrong with a safetensors file into an error that names it."""
    try:
        yield
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing.") from None
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged: {_if_pickled(path) or error}.") from None


def require_fitting(path: Path, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Check that tensors have the names, shapes and kinds of numbers of those that they are to replace.

    Floating-point numbers may differ in their precision.

    Raises:
        CheckpointError: naming the file `path` and the first tensor that does not fit.
    """
    for name in sorted(set(expected) ^ set(tensors)):
        what = "lacks" if name in expected else "holds"
        raise CheckpointError(f"{path} does not fit the agent: it {what} a tensor {name!r}.")
    for name, tensor in tensors.items():
        theirs = expected[name]
        if tensor.shape != theirs.shape:
            raise CheckpointError(
                f"{path} does not fit the agent: {name!r} has the shape {tuple(tensor.shape)}, not "
                f"{tuple(theirs.shape)}."
            )
        if tensor.dtype != theirs.dtype and not (tensor.is_floating_point() and theirs.is_floating_point()):
            raise CheckpointError(
                f"{path} does not fit the agent: {name!r} is of type {_told(tensor)}, not {_told(theirs)}."
            )


def _told(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _if_pickled(path: Path) -> str | None:
    """Return that a file holds a pickle, if it does; safetensors begin with a number of eight bytes, pickles do not."""
    with path.open("rb") as file:
        begin = file.read(8)
    if re.match(rb"\x80[\x02-\x05]", begin) and any(begin[3:]):
        return "it holds a pickle, which could run code and is never read"
    return "it is a zip archive, as of pickled weights, which is never read" if begin.startswith(b"PK\3\4") else None


def replace_file(path: Path, text: str) -> None:
    """Give a file a new content in one step: whatever happens, either the old or the new one is there, and whole.

    Raises:
        OSError: if the disk does not take it; the old content stays.
    """
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}.partial"
    try:
        temporary.write_text(text, encoding="utf-8")
        flush_to_disk(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush_to_disk(path.parent)


def heed_version() -> str:
    """Return this version of heed; "unknown" where it runs without being installed."""
    try:
        return importlib.metadata.version("heed")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _sibling(folder: Path, suffix: str) -> Path:
    return folder.parent / f".{folder.name}.{uuid.uuid4().hex[:8]}.{suffix}"


def _files_by_name(folder: Path) -> dict[str, Path]:
    """Return all files of a checkpoint but its manifest."""
    names = {path.relative_to(folder).as_posix(): path for path in _plain_files(folder)}
    return {name: path for name, path in names.items() if name != MANIFEST}


def _digests(folder: Path) -> dict[str, dict[str, Any]]:
    files = _files_by_name(folder).items()
    return {name: {"bytes": path.stat().st_size, "sha256": _sha256(path)} for name, path in files}


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(_HASHED_AT_ONCE):
            digest.update(part)
    return digest.hexdigest()


def flush_to_disk(path: Path) -> None:
    """Have the system write a file or folder out, so that no rename comes before the content.

    Raises:
        OSError: if the disk does not take it.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that knows no flushing of folders
            raise
    finally:
        os.close(descriptor)
