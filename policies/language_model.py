"""Language models: `heed-tiny`, `minilm`, or any causal, encoder-decoder or encoder model by path or hub id."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_model
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from heed.policies import tiny
from heed.policies.adapters import Adapter, AdapterError, add_adapter, is_of_adapter, save_adapter
from heed.policies.encoders import (
    POOLING_FILE,
    EncoderError,
    Pooling,
    find_pooling,
    is_encoder,
    load_encoder,
    most_tokens,
    new_encoder,
    read_pooling,
    special_tokens,
    write_pooling,
)
from heed.policies.foreign_code import remove_named_code
from heed.policies.frozen import freeze
from heed.policies.layout import NOTHING, Beside
from heed.policies.memory import WeightsWatch
from heed.policies.minilm import HUB_ID, MINILM, minilm_folder
from heed.policies.prompt import TEMPLATE, PromptEncoder
from heed.policies.scoring import Normalization, decoder_start
from heed.policies.segments import SEGMENTS, SegmentEncoder
from heed.policies.trie import ActionTrie, close_prefixes

TINY = "heed-tiny"
"""The name of the language model that ships with Heed."""

TINY_RANDOM = "heed-tiny-random"
"""The same without pretraining."""


ENCODER_TEMPLATE = "Instruction: {instruction}\nObservation: {observation}"
"""The prompt for an encoder: nothing goes on behind it."""

TEMPLATE_KEY = "heed_template"
"""Under this key the configuration of a shared model holds the prompt template that it was trained with."""


class LanguageModelError(ValueError):
    """A language model cannot be had. The message says why and what to do."""


@dataclass(eq=False)
class LanguageModel:
    """A language model with its tokenizer and the prompt template that suits it.

    A causal model goes on from the prompt; an encoder-decoder reads it whole and begins anew; an encoder reads it
    whole, and that is all.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    template: str = TEMPLATE
    adapter: Adapter | None = None
    """What is in the model and trains instead of its own weights, if there is one."""
    revision: str | None = None
    """Of a hub model."""
    pooling: Pooling | None = None
    """Of an encoder; other models have none."""
    _hashed: tuple[WeightsWatch, str] | None = dataclasses.field(default=None, init=False, repr=False)
    """The fingerprint, and what tells whether it still holds."""

    @property
    def vocabulary(self) -> int:
        """How many tokens the model's embedding has; tokenizers may use fewer."""
        embedding = self.model.get_input_embeddings()
        assert isinstance(embedding, torch.nn.Embedding)
        return embedding.num_embeddings

    def encoder(
        self,
        *,
        template: str | None = None,
        max_tokens: int = 256,
        beside: Beside = NOTHING,
        segments: bool = False,
    ) -> PromptEncoder:
        """Return an encoder that makes this model's prompts, at most `max_tokens` long, of words and what is `beside`.

        With `segments` they tell the instruction and the parts of the observation apart, which an encoder reads one by
        one (`heed.policies.segments`).

        Raises:
            ValueError: if the model cannot take prompts of that length, the template is wrong, or another model than an
                encoder is to read segments.
        """
        if segments:
            if self.pooling is None:
                raise ValueError(f"{self.name} is no encoder: only an encoder reads an observation in segments.")
            around = sum(map(len, special_tokens(self.tokenizer)))
            most = (most_tokens(self.model) or max_tokens + around) - around
            return SegmentEncoder(
                self.tokenizer, template=template or SEGMENTS, max_tokens=max_tokens, most=most, beside=beside
            )
        limit = most_tokens(self.model)
        if limit is not None and max_tokens > limit:
            raise ValueError(
                f"{self.name} takes at most {limit} tokens, but prompts may have {max_tokens}: lower max_prompt_tokens."
            )
        return PromptEncoder(
            self.tokenizer,
            template=template or self.template,
            max_tokens=max_tokens,
            # An encoder was trained on closed texts; behind an end token no causal model expects an action.
            closed=bool(self.model.config.is_encoder_decoder) or self.pooling is not None,
            beside=beside,
        )

    def action_tokens(self, texts: tuple[str, ...]) -> list[list[int]]:
        """Return each action text's token ids, as they follow a prompt: after a space."""
        return [self.tokenizer.encode(f" {text}", add_special_tokens=False) for text in texts]

    def action_trie(self, texts: tuple[str, ...], normalization: Normalization, *, distinct: bool = True) -> ActionTrie:
        """Return the trie of the action texts' tokens, as scores normalised in that way need it.

        Raises:
            ValueError: if two texts that are to be `distinct` cannot be told apart by their tokens.
        """
        actions = self.action_tokens(texts)
        if normalization == "siblings":
            actions = close_prefixes(actions, self.tokenizer.eos_token_id)
        return ActionTrie.build(actions, distinct=distinct)

    def copy(self) -> LanguageModel:
        """Return the same language model with weights of its own, but for those that do not train: they are shared."""
        shared: dict[int, Any] = {id(weight): weight for weight in self.model.parameters() if not weight.requires_grad}
        return dataclasses.replace(self, model=copy.deepcopy(self.model, shared))

    def for_training(self, train_layers: int | None = None, adapter: Adapter | None = None) -> LanguageModel:
        """Return the same language model, of which only a part trains. That part is its own, the rest is shared.

        This one is left as it is, and must be: were its weights changed, the other's would be, too.

        Args:
            train_layers: how many of the top layers train; None for the whole model, or all of the adapter.
            adapter: is put into the model, and trains instead of its weights.

        Raises:
            AdapterError: if both are given, the model has an adapter already, or takes none of that kind.
            ValueError: if the model has no such layers.
        """
        if adapter is not None and train_layers is not None:
            raise AdapterError("With an adapter nothing else of the language model trains: leave train_layers out.")
        if self.adapter is not None and adapter is not None:
            raise AdapterError(f"{self.name} has an adapter already.")
        if self.adapter is not None or (train_layers is None and adapter is None):
            return self.copy()
        shared: dict[int, Any] = {
            id(weight): torch.nn.Parameter(weight.detach(), requires_grad=False) for weight in self.model.parameters()
        }
        model = copy.deepcopy(self.model, shared)
        if adapter is None:
            freeze(model, train_layers)
            for weight in model.parameters():
                if weight.requires_grad:
                    weight.data = weight.data.clone()
        else:
            add_adapter(model, adapter)
        return dataclasses.replace(self, model=model, adapter=adapter)

    def own_weights(self) -> dict[str, torch.nn.Parameter]:
        """Return the weights that are the model's and not its adapter's, by their names in it."""
        return {name: weight for name, weight in self.model.named_parameters() if not is_of_adapter(name)}

    def fingerprint(self) -> str:
        """Return the SHA-256 of the model's own weights and their names, the same with an adapter and without.

        It is computed anew only if a weight has changed: each checkpoint of an adapter asks for it.
        """
        if self._hashed is not None and not self._hashed[0].changed():
            return self._hashed[1]
        watch = WeightsWatch(self.own_weights().values())
        watch.changed()  # from now on
        digest = hashlib.sha256()
        for name, weight in sorted((name.replace(".base_layer.", "."), w) for name, w in self.own_weights().items()):
            digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
            digest.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        self._hashed = (watch, digest.hexdigest())
        return self._hashed[1]

    def save(self, folder: Path) -> None:
        """Write configuration and tokenizer (not the weights) into `folder`."""
        self.model.config.save_pretrained(folder)
        if getattr(self.model, "generation_config", None) is not None:  # an encoder has none
            self.model.generation_config.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        if self.pooling is not None:
            write_pooling(folder, self.pooling, self.model.config.hidden_size)
        # A hub model that transformers knows by now may still name the code that it once came with.
        remove_named_code(folder)

    def share(self, folder: Path) -> None:
        """Write all of it into `folder` as transformers loads it: safetensors, configuration, tokenizer.

        The prompt template goes with the configuration, so that it stays with the model if others tune it further. Of a
        model with an adapter, the adapter is written alone, as peft loads it.
        """
        if self.adapter is not None:
            base = HUB_ID if self.name == MINILM else self.name
            save_adapter(self.model, self.adapter, folder, base=base, revision=self.revision)
            self.tokenizer.save_pretrained(folder)
            return
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        if self.pooling is not None:
            write_pooling(folder, self.pooling, self.model.config.hidden_size)
        path = folder / "config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**config, TEMPLATE_KEY: self.template}, indent=2) + "\n", encoding="utf-8")


def load_language_model(
    name: str = TINY, *, revision: str | None = None, dtype: torch.dtype = torch.float32
) -> LanguageModel:
    """Load a causal, encoder-decoder or encoder language model with its tokenizer.

    Args:
        name: `heed-tiny`, `heed-tiny-random`, `minilm` (`heed.policies.minilm`), a folder with a Hugging Face model, or
            a hub id such as `Qwen/Qwen2.5-0.5B`.
        revision: of a hub model: a branch, a tag or a commit.
        dtype: of the weights.

    No code of the model's own is run, and no pickled weights are read: those must be safetensors.

    Raises:
        LanguageModelError: if there is no such model, no network, it needs code of its own, its weights are pickled or
            not whole, or it is of no kind that is known here.
    """
    if name in (TINY, TINY_RANDOM):
        return _load_tiny(name, dtype)
    folder = _minilm() if name == MINILM else Path(name).expanduser()
    if _looks_like_path(name) and not folder.is_dir():
        raise LanguageModelError(f"There is no model folder {name!r}. Give a folder with config.json and weights.")
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        raise LanguageModelError(
            f"The folder {name!r} holds an adapter, not a whole language model: give the model that it belongs to."
        )
    source: dict[str, Any] = {"pretrained_model_name_or_path": str(folder) if folder.is_dir() else name}
    source["trust_remote_code"] = False
    if revision is not None:
        source["revision"] = revision
    try:
        config = AutoConfig.from_pretrained(**source)
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(**source)
        if is_encoder(config):
            encoder = load_encoder(config, source, dtype).eval()
            special_tokens(tokenizer)  # which are to stand around texts
            pooling = find_pooling(source)
            return LanguageModel(
                encoder, tokenizer, name, _template_of(config, name), revision=revision, pooling=pooling
            )
        model = _auto_class(config).from_pretrained(
            **source, config=config, dtype=dtype, attn_implementation="sdpa", use_safetensors=True
        )
    except EncoderError as error:
        raise LanguageModelError(f"The encoder {name!r} cannot be used: {error}.") from error
    except (OSError, ValueError) as error:
        raise LanguageModelError(_explain(name, error)) from error
    model.eval()
    if config.is_encoder_decoder:
        try:
            decoder_start(model)
        except ValueError as error:
            raise LanguageModelError(f"{name!r} cannot be used: {error}.") from None
    if not config.is_encoder_decoder and not _is_causal(model):
        raise LanguageModelError(
            f"{name!r} reads its text in both directions, so it gives words no likelihood, and it is no encoder that "
            "fills gaps: give a causal, an encoder-decoder or such an encoder language model."
        )
    return LanguageModel(model, tokenizer, name, _template_of(config, name), revision=revision)


def as_trained(model: str | LanguageModel, train_layers: int | None, adapter: Adapter | None) -> LanguageModel:
    """Return a language model for a policy: one loaded by name, or a copy of one that is given (`for_training`)."""
    language_model = load_language_model(model) if isinstance(model, str) else model
    if isinstance(model, str) and train_layers is None and adapter is None:
        return language_model  # nobody else has it
    return language_model.for_training(train_layers, adapter)


def _template_of(config: PretrainedConfig, name: str) -> str:
    """Return the template that a shared model was trained with, for any other model the plain one."""
    template = getattr(config, TEMPLATE_KEY, ENCODER_TEMPLATE if is_encoder(config) else TEMPLATE)
    if not isinstance(template, str):
        raise LanguageModelError(f"The {TEMPLATE_KEY} in the configuration of {name!r} is no text: {template!r}.")
    return template


def _auto_class(config: PretrainedConfig) -> Any:
    return AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM


def _is_causal(model: PreTrainedModel) -> bool:
    """Say whether what comes later in a text leaves the model's output before it alone."""
    device = model.device
    with torch.no_grad():
        first, second = (
            model(torch.tensor([tokens], device=device)).logits[0, :3] for tokens in ([1, 2, 3, 4], [1, 2, 3, 5])
        )
    return bool(torch.allclose(first, second, atol=1e-3, rtol=1e-3))


def _minilm() -> Path:
    try:
        return minilm_folder()
    except FileNotFoundError as error:
        raise LanguageModelError(str(error)) from None


def _load_tiny(name: str, dtype: torch.dtype) -> LanguageModel:
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(tiny.FOLDER)
    model = tiny.new_model(len(tokenizer), seed=0)
    if name == TINY:
        load_model(model, tiny.FOLDER / "model.safetensors")
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    model.train(False)
    return LanguageModel(model, tokenizer, name, tiny.TEMPLATE)


def rebuild_language_model(folder: Path, name: str, template: str) -> LanguageModel:
    """Build the language model that `LanguageModel.save` described in `folder`, with weights still to be loaded."""
    # A checkpoint may be a stranger's: nothing that it names is to be run.
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if is_encoder(config):
        pooling = read_pooling(folder / POOLING_FILE)
        return LanguageModel(new_encoder(config).eval(), tokenizer, name, template, pooling=pooling)
    model = _auto_class(config).from_config(config, attn_implementation="sdpa", trust_remote_code=False)
    if (folder / "generation_config.json").exists():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    return LanguageModel(model.eval(), tokenizer, name, template)


def read_shared_language_model(folder: Path, name: str, template: str) -> LanguageModel:
    """Load the language model that `LanguageModel.share` wrote into `folder`, with weights of the type they have.

    Raises:
        LanguageModelError: if its files are missing or damaged.
    """
    # As above: safetensors only, and no code from the folder.
    plain: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
    try:
        config = AutoConfig.from_pretrained(folder, **plain)
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, **plain)
        if is_encoder(config):
            source = {"pretrained_model_name_or_path": str(folder), **plain}
            encoder = load_encoder(config, source, "auto").eval()
            return LanguageModel(encoder, tokenizer, name, template, pooling=read_pooling(folder / POOLING_FILE))
        model = _auto_class(config).from_pretrained(
            folder, config=config, dtype="auto", attn_implementation="sdpa", use_safetensors=True, **plain
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise LanguageModelError(f"{folder} holds no whole language model: {_first_line(error)}") from error
    return LanguageModel(model.eval(), tokenizer, name, template)


def _looks_like_path(name: str) -> bool:
    return name.startswith((".", "~", os.sep)) or name.count("/") > 1


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _explain(name: str, error: Exception) -> str:
    first_line = _first_line(error)
    if "trust_remote_code" in str(error):
        return (
            f"The language model {name!r} needs code of its own, which heed does not run: give one whose architecture "
            "transformers has."
        )
    folder = Path(name).expanduser()
    # A hub model's files are not here to be looked at.
    pickled = any(folder.glob("*.bin")) if folder.is_dir() else "safetensors" in str(error)
    if pickled:
        return (
            f"The language model {name!r} has no weights as safetensors. Pickled ones (pytorch_model.bin) can run "
            "code, so heed does not read them: load the model with transformers where you trust it, and save it with "
            f"`save_pretrained`. {first_line}"
        )
    if folder.is_dir():
        return f"The folder {name!r} holds no language model with its tokenizer: {first_line}"
    return (
        f"Cannot load the language model {name!r}: it is neither {TINY!r} nor a folder here, and the Hugging Face hub "
        f"did not give it (is the name right, and is there a network?). {first_line}"
    )
