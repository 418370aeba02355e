"""Parameter-efficient tuning: a few new weights in a language model whose own stay as they are.

An adapter is put into the model's layers where they are, by `peft`, so all that reads hidden states goes on as before;
virtual tokens, which stand before a prompt, have a reader of their own. The model's own weights do not train, so
policies that differ in their adapters share them (`LanguageModel.for_training`): a target network, a reference policy
and the policy itself are one model in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from heed.policies.adapters.rank_budget import FINAL, RISE, TICKS, RankBudget
from heed.policies.adapters.virtual_tokens import MODULE, VirtualTokens
from heed.policies.backbones.backbone import backbone_of
from heed.policies.backbones.hidden_states import layers_of

if TYPE_CHECKING:
    from peft import PeftConfig

Method = Literal["lora", "rslora", "dora", "adalora", "ia3", "prompt", "prefix"]
"""LoRA (Hu et al. 2021, arXiv 2106.09685); the same with a scale that suits large ranks (rsLoRA, Kalajdzievski 2023,
arXiv 2312.03732); with weights split into direction and magnitude (DoRA, Liu et al. 2024, arXiv 2402.09353); with a
budget of ranks that the layers share (AdaLoRA, Zhang et al. 2023, arXiv 2303.10512). Factors on keys, values and the
feed-forward network (IA3, Liu et al. 2022, arXiv 2205.05638). Virtual tokens before each prompt
(`heed.policies.adapters.virtual_tokens`)."""

NAME = "default"
"""Of the one adapter of a model, as `peft` calls it."""


class AdapterError(ValueError):
    """An adapter cannot be had for a model. The message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """What is to train of a language model instead of its weights.

    Raises:
        AdapterError: if a number or name cannot be.
    """

    method: Method = "lora"
    rank: int = 8
    """Of the product of two small matrices that is added to a weight. AdaLoRA begins with half as much again and keeps
    so many on the average; IA3 and virtual tokens have none."""
    alpha: float = 16.0
    """The product is multiplied by `alpha / rank`, in rsLoRA by `alpha / sqrt(rank)`."""
    targets: tuple[str, ...] = ()
    """How the names of the layers end that get one, such as q_proj; () for all linear layers but the output
    embedding, and for IA3 for those that `peft` knows of the architecture."""
    virtual_tokens: int = 8
    """How many, for `prompt` and `prefix`."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if self.method not in get_args(Method):
            raise AdapterError(f"There is no adapter {self.method!r}: give one of {', '.join(get_args(Method))}.")
        if self.rank < 1:
            raise AdapterError(f"The adapter's rank is {self.rank}, but must be at least 1.")
        if self.virtual_tokens < 1:
            raise AdapterError(f"There are {self.virtual_tokens} virtual tokens, but there must be at least 1.")
        if self.alpha <= 0:
            raise AdapterError(f"The adapter's alpha is {self.alpha}, but must be positive.")
        object.__setattr__(self, "targets", tuple(self.targets))

    def as_json(self) -> dict[str, Any]:
        """Return the adapter as JSON; `Adapter(**saved)` is the inverse."""
        return {**asdict(self), "targets": list(self.targets)}


def require_peft() -> None:
    """Refuse to go on without `peft`.

    Raises:
        AdapterError: if it is not installed.
    """
    if find_spec("peft") is None:
        raise AdapterError("Adapters need the package peft: pip install 'heed[adapters]'.")


def add_adapter(model: PreTrainedModel, adapter: Adapter, *, layers: int | None = None) -> None:
    """Put an adapter into `model`, which is changed: only the adapter trains from now on.

    Its output is the model's own at first, but with virtual tokens.

    Args:
        model: a language model.
        adapter: what it is.
        layers: how many of the top layers get one; None for all.

    Raises:
        AdapterError: if `peft` is missing, or finds nothing in this model to adapt; if there are no such layers, or
            virtual tokens, which stand before the prompt, are to be in some.
    """
    if layers is not None:
        _require_layers(model, adapter, layers)
    training = model.training
    model.requires_grad_(False)
    try:
        if adapter.method in ("prompt", "prefix"):
            model.add_module(MODULE, VirtualTokens(model, adapter.method, adapter.virtual_tokens))
        else:
            _add_layers(model, adapter, layers)
    except ValueError as error:
        raise AdapterError(f"{type(model).__name__} takes no {adapter.method} adapter: {error}") from None
    for name, weight in model.named_parameters():
        if is_of_adapter(name) and weight.dtype in (torch.bfloat16, torch.float16):
            weight.data = weight.data.float()  # it trains: see `heed.policies.backbones.precision.Weights`
    model.train(training)  # new layers would drop out numbers, and PPO's ratio would be noise


def _require_layers(model: PreTrainedModel, adapter: Adapter, layers: int) -> None:
    """Refuse to put an adapter into so many of the top layers, if that cannot be.

    Raises:
        AdapterError: saying why.
    """
    if adapter.method in ("prompt", "prefix"):
        raise AdapterError(
            f"Virtual tokens ({adapter.method}) stand before the prompt and go through all layers: leave train_layers "
            "out, or give another adapter."
        )
    try:
        found = len(layers_of(model))
    except ValueError as error:
        raise AdapterError(f"{error} Leave train_layers out: the adapter trains in all of it.") from None
    if not 0 < layers <= found:
        raise AdapterError(
            f"train_layers is {layers}, but with an adapter it must be from 1 to {found}, as many layers as the "
            "language model has."
        )


def _add_layers(model: PreTrainedModel, adapter: Adapter, layers: int | None) -> None:
    require_peft()
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING

    config = _config(model, adapter, layers)
    tuner: Callable[..., Any] = PEFT_TYPE_TO_TUNER_MAPPING[config.peft_type]  # type: ignore[index]
    tuner(model, config, NAME)  # changes the layers where they are


def is_of_adapter(name: str) -> bool:
    """Say whether a parameter of that name belongs to an adapter."""
    return any(part.startswith(("lora_", "ia3_", "ranknum", MODULE)) for part in name.split("."))


def save_adapter(
    model: PreTrainedModel,
    adapter: Adapter,
    folder: Path,
    *,
    base: str,
    revision: str | None = None,
    layers: int | None = None,
) -> None:
    """Write the adapter of `model` into `folder` as `peft` loads it: `PeftModel.from_pretrained(model, folder)`.

    Args:
        model: with the adapter.
        adapter: what it is.
        folder: is there.
        base: the name of the model without it.
        revision: of the base.
        layers: how many of the top layers have it; None for all.

    Raises:
        AdapterError: if `peft` is missing.
    """
    require_peft()
    from peft import PrefixTuningConfig, PromptTuningConfig

    virtual = getattr(model, MODULE, None)
    if isinstance(virtual, VirtualTokens):
        kind: Any = PromptTuningConfig if virtual.states is None else PrefixTuningConfig
        config: PeftConfig = kind(num_virtual_tokens=virtual.count, **virtual.sizes())
        weights = {"prompt_embeddings": virtual.as_peft_has_them()}
    else:
        config = _config(model, adapter, layers)
        weights = {
            # As peft names them in a file: in its wrapper, and without the adapter's name.
            f"base_model.model.{name.replace(f'.{NAME}', '')}".removesuffix(".magnitude"): weight
            for name, weight in model.state_dict().items()
            if is_of_adapter(name)
        }
    config.base_model_name_or_path, config.revision = base, revision
    config.task_type = backbone_of(model).adapter_task
    config.inference_mode = True
    config.save_pretrained(str(folder))
    save_file(
        {name: w.detach().cpu().contiguous() for name, w in weights.items()}, folder / "adapter_model.safetensors"
    )


def rank_budget_of(model: PreTrainedModel, adapter: Adapter | None) -> RankBudget | None:
    """Return what shares AdaLoRA's ranks among the layers of `model`; None with another adapter, or without one."""
    if adapter is None or adapter.method != "adalora":
        return None
    return RankBudget(model, _config(model, adapter), NAME)


def _config(model: PreTrainedModel, adapter: Adapter, layers: int | None = None) -> PeftConfig:
    from peft import AdaLoraConfig, IA3Config, LoraConfig

    transposed = any(isinstance(module, Conv1D) for module in model.modules())  # as GPT-2 keeps its weights
    if adapter.method == "ia3":
        return IA3Config(fan_in_fan_out=transposed, **_ia3_targets(model, adapter, layers))
    common: dict[str, Any] = {
        "lora_alpha": adapter.alpha,
        "target_modules": _within(model, layers, adapter.targets) or list(adapter.targets) or "all-linear",
        "fan_in_fan_out": transposed,
    }
    if adapter.method == "adalora":
        first = -(-3 * adapter.rank // 2)
        ticks: dict[str, Any] = {"total_step": TICKS, "tinit": RISE, "tfinal": FINAL, "deltaT": 1}
        return AdaLoraConfig(init_r=first, target_r=adapter.rank, **ticks, **common)
    return LoraConfig(
        r=adapter.rank,
        use_rslora=adapter.method == "rslora",
        use_dora=adapter.method == "dora",
        **common,
    )


def _within(model: PreTrainedModel, layers: int | None, targets: Collection[str]) -> list[str]:
    """Return the linear modules in the top layers whose names end like one of `targets`, or all; () without a limit."""
    if layers is None:
        return []
    chosen = {id(part) for layer in layers_of(model)[-layers:] for part in layer.modules()}
    names = [
        name
        for name, module in model.named_modules()
        # Those that have an adapter already stand around what they were.
        if id(module) in chosen and isinstance(getattr(module, "base_layer", module), torch.nn.Linear | Conv1D)
        if not name.endswith("base_layer") and not is_of_adapter(name)
        if not targets or any(name == end or name.endswith(f".{end}") for end in targets)
    ]
    if not names:
        raise AdapterError(f"No linear layer of the top {layers} has a name that ends in {' or '.join(targets)}.")
    return names


def _ia3_targets(model: PreTrainedModel, adapter: Adapter, layers: int | None) -> dict[str, Any]:
    """Return which layers IA3 scales: the outputs of some, and the inputs of the feed-forward network's last."""
    from peft.utils.constants import (
        TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING as FEED_FORWARD,
    )
    from peft.utils.constants import (
        TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING as TARGETS,
    )

    kind = model.config.model_type
    targets = list(adapter.targets) or TARGETS.get(kind)
    if not targets:
        raise AdapterError(
            f"It is not known which layers of {kind!r} IA3 is to scale: name them in the adapter's targets."
        )
    known = FEED_FORWARD.get(kind, [])
    targets = _within(model, layers, targets) or targets
    return {
        "target_modules": targets,
        "feedforward_modules": [name for name in targets if any(f".{name}".endswith(f".{end}") for end in known)],
    }
