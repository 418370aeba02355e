"""An adapter in the folder of a model's own weights, as trainers leave it: the model is both.

transformers would put it into the model unmerged, where it trains and is saved otherwise than weights are. Here it is
merged, so that what is trained, saved and shared is one whole model.
"""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel
from transformers.utils.peft_utils import find_adapter_config_file

from heed.policies.models.model_folder import ModelFilesError, first_line

UNMERGED: dict[str, Any] = {"adapter_kwargs": {"subfolder": "no-adapter"}}
"""Keeps `from_pretrained` from loading an adapter: it looks for one where there is none."""

_PICKLED = "adapter_model.bin"


def merge_bundled_adapter(model: PreTrainedModel, source: dict[str, Any]) -> PreTrainedModel:
    """Return the model with the adapter that lies beside it merged into its weights; itself where there is none.

    Args:
        model: loaded `UNMERGED`.
        source: where it is, as `from_pretrained` takes it.

    Raises:
        ModelFilesError: if that adapter cannot be merged into this model.
    """
    place = source["pretrained_model_name_or_path"]
    where = {key: source[key] for key in ("revision", "local_files_only") if key in source}
    found = find_adapter_config_file(place, **where)
    if found is None:
        return model
    told = "an adapter (adapter_config.json) lies beside it"
    alone = "move the adapter's files away to use the model alone"
    if find_spec("peft") is None:
        raise ModelFilesError(f"{told}, which needs the package peft: pip install 'heed[adapters]', or {alone}")
    if (Path(found).parent / _PICKLED).is_file() and not (Path(found).parent / "adapter_model.safetensors").is_file():
        raise ModelFilesError(f"{told} as a pickle ({_PICKLED}), which could run code: save it as safetensors")
    from peft import PeftModel

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # between peft and transformers, nobody else's business
            warnings.filterwarnings("error", message=".*adapter keys.*")  # such as those that are missing
            adapted: Any = PeftModel.from_pretrained(model, place, **where)
            merged: PreTrainedModel = adapted.merge_and_unload(safe_merge=True)
    except Exception as error:  # whatever peft makes of files that may be of another model
        raise ModelFilesError(f"{told} that cannot be merged into it ({first_line(error)}): {alone}") from error
    for weight in merged.parameters():
        weight.requires_grad_(weight.is_floating_point())
    warnings.warn(
        f"An adapter (adapter_config.json) lies beside the model in {place!r}: it is merged into the weights. To use "
        f"the model without it, {alone}.",
        stacklevel=2,
    )
    return merged
