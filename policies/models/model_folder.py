"""What the files of a language model must be: told before transformers reads them, or why it could not.

transformers says of many a damaged folder something else than what is wrong with it, or nothing at all: a tokenizer
without files is a new, empty one, and weights that are missing are random numbers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers import PretrainedConfig, PreTrainedTokenizerBase

_LFS = b"version https://git-lfs.github.com/spec/"
"""How a file begins that stands for another one, which git-lfs has not fetched."""

_WRAPPERS = {
    "_orig_mod.": "torch.compile puts before every name: save the model that was compiled, `model._orig_mod`",
    "module.": "DistributedDataParallel puts before every name: save the model inside, `model.module`",
    "pretrained_model.": "trl puts before the names of a model with a value head: save `model.pretrained_model`",
    "base_model.model.": "peft puts before every name: save what `merge_and_unload()` returns",
    "v_head.": "trl calls its value head: save the language model without it, heed has heads of its own",
    "_fsdp_wrapped_module.": "FSDP puts before every name: save the full state of the model inside",
}
"""What training tools put before the names of weights, and what to do about it."""


_BUFFERS = re.compile(
    r"(^|\.)(masked_bias|attn(\.attention)?\.bias|attention\.bias|causal_mask|inv_freq|position_ids|(cos|sin)_cached)$"
)
"""Names of masks and tables that old checkpoints hold and models compute: no weights, though they are saved as some."""

_TOKENIZERS = ("tokenizer*", "*.model", "vocab*", "merges.txt", "tekken.json", "*.tiktoken")
"""What files of tokenizers are called."""


class ModelFilesError(ValueError):
    """The files of a language model cannot be used. The message says which, as a sentence without its end."""


def require_files(folder: Path) -> None:
    """Refuse a folder whose files are not those of one whole model, as far as can be told without reading them all.

    Raises:
        ModelFilesError: if a file is only a pointer to the real one, or there is an adapter and no model.
    """
    for path in sorted(one for one in folder.iterdir() if one.is_file()):
        with path.open("rb") as file:
            if file.read(len(_LFS)) == _LFS:
                raise ModelFilesError(
                    f"{path.name} is a pointer of git-lfs and not the file itself: fetch it with `git lfs pull`"
                )
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        raise ModelFilesError("it holds an adapter, not a whole language model: give the model that it belongs to")


def require_no_quantization(config: PretrainedConfig) -> None:
    """Refuse weights that were stored rounded: they cannot train, and few of them load everywhere.

    Raises:
        ModelFilesError: naming the method.
    """
    for part in (config, config.get_text_config()):
        found = getattr(part, "quantization_config", None) or getattr(part, "compression_config", None)
        if found:
            content: Mapping[str, Any] = found if isinstance(found, Mapping) else vars(found)
            method = content.get("quant_method") or "an unnamed method"
            raise ModelFilesError(
                f"its weights are stored quantized ({getattr(method, 'value', method)}), which heed does not train "
                "on: give the model that they were made from, and let --quantize (quantize=...) round it to 8 or 4 bits"
            )


def require_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Refuse a tokenizer that knows no words, as transformers makes one where the files are missing.

    Args:
        tokenizer: as it was loaded.
        folder: where its files should be, if that is a folder here.

    Raises:
        ModelFilesError: if it is one.
    """
    needed = [name for name in getattr(tokenizer, "vocab_files_names", {}).values() if isinstance(name, str)]
    found = {"tokenizer.json", *needed} & {path.name for path in folder.iterdir()} if folder.is_dir() else {"hub"}
    if (needed and not found) or len(tokenizer.get_vocab()) - len(set(tokenizer.all_special_ids)) < 1:
        names = ", ".join(dict.fromkeys(["tokenizer.json", *needed]))
        raise ModelFilesError(f"it holds no vocabulary for its tokenizer ({names}): save the tokenizer there, too")


def require_whole(found: Mapping[str, Any]) -> None:
    """Refuse weights that are not those of the model, no more and no less.

    Args:
        found: what `from_pretrained` tells of its loading: names that are missing, or that the model does not have.

    Raises:
        ModelFilesError: naming a weight.
    """
    missing = sorted(found.get("missing_keys", ()))
    more = sorted(name for name in found.get("unexpected_keys", ()) if not _BUFFERS.search(name))
    other = sorted(str(one[0] if isinstance(one, tuple) else one) for one in found.get("mismatched_keys", ()))
    failed = [*found.get("error_msgs", ()), *dict(found.get("conversion_errors") or {}).values()]
    told = []
    if missing:
        told.append(_named(missing, "missing"))
    if more:
        told.append(f"{_named(more, 'there')}, of which the model knows nothing")
    if other:
        told.append(f"{other[0]!r} has another shape than the configuration says")
    if failed:
        told.append(str(failed[0]).strip().splitlines()[0])
    if not told:
        return
    wrapper = next((prefix for prefix in _WRAPPERS for name in more if prefix in name), None)
    hint = "" if wrapper is None else f"; {wrapper!r} is what {_WRAPPERS[wrapper]}"
    raise ModelFilesError(f"its weights are not whole: {'; '.join(told)}{hint}")


def _named(names: list[str], what: str) -> str:
    others = "" if len(names) == 1 else f" and {len(names) - 1} more"
    return f"{names[0]!r}{others} {'is' if len(names) == 1 else 'are'} {what}"


def damage(folder: Path) -> str | None:
    """Return, as a sentence, which file of a folder cannot be read or is not there; None if all can.

    To be asked after a failure: it looks into every file.
    """
    if not (folder / "config.json").is_file():
        return "it has no config.json."
    for path in sorted(folder.glob("*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            return f"{path.name} is no JSON ({first_line(error)}): was all of it copied?"
        if path.name in ("config.json", "tokenizer_config.json", "tokenizer.json") and not isinstance(content, dict):
            return f"{path.name} holds no JSON object."
        if path.name == "tokenizer.json" and not {"added_tokens", "model"} <= set(content):
            return f"{path.name} is none of the tokenizers library."
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt"):
                pass
        except (OSError, SafetensorError) as error:
            return f"{path.name} is damaged ({first_line(error)}): was all of it copied?"
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        content = json.loads(index.read_text(encoding="utf-8"))
        shards = sorted(set(content.get("weight_map", {}).values())) if isinstance(content, dict) else []
        missing = [name for name in shards if not (folder / name).is_file()]
        if missing:
            return f"{missing[0]} is missing, which {index.name} names."
    if not any(path.name != "tokenizer_config.json" for kind in _TOKENIZERS for path in folder.glob(kind)):
        return "it holds no tokenizer (tokenizer.json): save the tokenizer there, too."
    return None


def first_line(error: Exception) -> str:
    """Return what an error says first, and what it is called if it says nothing."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
