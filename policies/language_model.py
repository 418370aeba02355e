"""Language models: `heed-tiny`, or any Hugging Face causal or encoder-decoder model by local path or hub id."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import os
import warnings
from collections.abc import Sequence
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

from heed.policies import quantization, tiny
from heed.policies.adapters import Adapter, AdapterError, add_adapter, is_of_adapter, save_adapter
from heed.policies.foreign_code import remove_named_code
from heed.policies.frozen import freeze, freeze_embeddings
from heed.policies.layout import NOTHING, Beside
from heed.policies.memory import WeightsWatch
from heed.policies.precision import Weights, weights_dtype
from heed.policies.prompt import TEMPLATE, PromptEncoder
from heed.policies.quantization import Quantization
from heed.policies.scoring import Normalization, decoder_start
from heed.policies.template import PromptTemplate, Template, TemplateError
from heed.policies.trie import ActionTrie, close_prefixes

TINY = "heed-tiny"
"""The name of the language model that ships with Heed."""

TINY_RANDOM = "heed-tiny-random"
"""The same without pretraining."""


_OTHER_ENDS = (":", "\n", ".", "a", "0")
"""Texts behind which an action's tokens are looked for where the prompt's own end would change."""

TEMPLATE_KEY = "heed_template"
"""Under this key the configuration of a shared model holds the prompt template that it was trained with."""


class LanguageModelError(ValueError):
    """A language model cannot be had. The message says why and what to do."""


@dataclass(eq=False)
class LanguageModel:
    """A language model with its tokenizer and the prompt template that suits it.

    A causal model goes on from the prompt; an encoder-decoder reads it whole and begins anew.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    template: PromptTemplate = TEMPLATE
    adapter: Adapter | None = None
    """What is in the model and trains instead of its own weights, if there is one."""
    revision: str | None = None
    """Of a hub model."""
    quantized: Quantization | None = None
    """How many bits its own weights are rounded to, where they are."""
    _hashed: tuple[WeightsWatch, str] | None = dataclasses.field(default=None, init=False, repr=False)
    """The fingerprint, and what tells whether it still holds."""

    @property
    def vocabulary(self) -> int:
        """How many tokens the model's embedding has; tokenizers may use fewer."""
        embedding = self.model.get_input_embeddings()
        assert isinstance(embedding, torch.nn.Embedding)
        return embedding.num_embeddings

    @property
    def tied(self) -> bool:
        """Whether the output embedding is the input embedding.

        What the configuration says of it need not be so: transformers 5 leaves them apart where the weights that it
        loads differ, as those of Flan-T5 do.
        """
        embedding, head = self.model.get_input_embeddings(), self.model.get_output_embeddings()
        return head is not None and head.weight is embedding.weight

    def encoder(
        self, *, template: Template | None = None, max_tokens: int = 256, beside: Beside = NOTHING
    ) -> PromptEncoder:
        """Return an encoder that makes this model's prompts, at most `max_tokens` long, of words and what is `beside`.

        Raises:
            TemplateError: if the template cannot be used.
            ValueError: if the model cannot take prompts of that length.
        """
        limit = getattr(self.model.config, "max_position_embeddings", None)
        if limit is not None and max_tokens > limit:
            raise ValueError(
                f"{self.name} takes at most {limit} tokens, but prompts may have {max_tokens}: lower max_prompt_tokens."
            )
        return PromptEncoder(
            self.tokenizer,
            template=template or self.template,
            max_tokens=max_tokens,
            # An encoder was trained on closed texts; behind an end token no causal model expects an action.
            closed=bool(self.model.config.is_encoder_decoder),
            beside=beside,
        )

    def action_tokens(self, texts: Sequence[str], template: PromptTemplate | None = None) -> list[list[int]]:
        """Return each action text's token ids, as they follow a prompt.

        They are what one text of prompt and action has behind the prompt's tokens. Where the tokenizer makes a single
        token of the prompt's end and the action's beginning, the prompt alone has other tokens: then the action's are
        those that it has behind another text, and a warning says so. An encoder-decoder begins anew with the action.

        Args:
            texts: of the actions.
            template: of the prompts; the model's own unless given.
        """
        template = template or self.template
        if self.model.config.is_encoder_decoder:
            return [self._bare_tokens(text) for text in texts]
        end = template.format(instruction="a", observation="a")
        found, torn = [], []
        for text in texts:
            words = f"{template.before_action}{text}"
            tokens = self._tokens_behind(end, words)
            if tokens is None:
                torn.append(text)
                known = (self._tokens_behind(other, words) for other in _OTHER_ENDS)
                tokens = next((one for one in known if one is not None), self._bare_tokens(words))
            found.append(tokens)
        if torn:
            warnings.warn(
                f"The tokenizer of {self.name} makes one token of the end of a prompt, {end[-12:]!r}, and the "
                f"beginning of the action {torn[0]!r}. Actions are scored behind the prompt's own tokens, as this "
                "model has hardly seen them: let the template end otherwise.",
                stacklevel=2,
            )
        return found

    def _bare_tokens(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def _tokens_behind(self, before: str, text: str) -> list[int] | None:
        """Return the tokens that `text` adds to those of `before`; None if it changes these."""
        known, whole = self._bare_tokens(before), self._bare_tokens(before + text)
        return whole[len(known) :] if whole[: len(known)] == known else None

    def action_trie(
        self,
        texts: Sequence[str],
        normalization: Normalization,
        *,
        template: PromptTemplate | None = None,
        distinct: bool = True,
    ) -> ActionTrie:
        """Return the trie of the action texts' tokens, as scores normalised in that way need it.

        Args:
            texts: of the actions.
            normalization: of the scores.
            template: of the prompts that the actions follow; the model's own unless given.
            distinct: refuse texts that become the same tokens.

        Raises:
            ValueError: if two texts that are to be `distinct` cannot be told apart by their tokens.
        """
        actions = self.action_tokens(texts, template)
        if normalization == "siblings":
            actions = close_prefixes(actions, self.tokenizer.eos_token_id)
        return ActionTrie.build(actions, distinct=distinct)

    def copy(self) -> LanguageModel:
        """Return the same language model with weights of its own, but for those that do not train: they are shared."""
        if self.quantized is not None:
            return dataclasses.replace(self, model=quantization.copy_of(self.model))
        shared: dict[int, Any] = {id(weight): weight for weight in self.model.parameters() if not weight.requires_grad}
        return dataclasses.replace(self, model=copy.deepcopy(self.model, shared))

    def stored_in(self, dtype: torch.dtype) -> LanguageModel:
        """Return the same language model with its own weights stored in another type; an adapter's stay as they are."""
        copied = dataclasses.replace(self, model=copy.deepcopy(self.model))
        for weight in copied.own_weights().values():
            weight.data = weight.data.to(dtype)
        return copied

    def for_training(
        self, train_layers: int | None = None, adapter: Adapter | None = None, *, embeddings: bool = True
    ) -> LanguageModel:
        """Return the same language model, of which only a part trains. That part is its own, the rest is shared.

        This one is left as it is, and must be: were its weights changed, the other's would be, too.

        Args:
            train_layers: how many of the top layers train; None for the whole model, or all of the adapter.
            adapter: is put into the model, and trains instead of its weights.
            embeddings: whether embeddings train, those of tokens and of places, and the output embedding where it is
                the input's. With `train_layers` or an adapter they do not.

        Raises:
            AdapterError: if both are given, the model has an adapter already, or takes none of that kind; if weights of
                few bits are to train.
            ValueError: if the model has no such layers.
        """
        if adapter is not None and train_layers is not None:
            raise AdapterError("With an adapter nothing else of the language model trains: leave train_layers out.")
        if self.adapter is not None and adapter is not None:
            raise AdapterError(f"{self.name} has an adapter already.")
        if self.quantized is not None and adapter is None and self.adapter is None:
            raise AdapterError(
                f"The weights of {self.name} are rounded to {self.quantized}, so they cannot train: give an adapter."
            )
        if self.adapter is not None or (train_layers is None and adapter is None and embeddings):
            return self.copy()
        if self.quantized is not None:
            model = quantization.copy_of(self.model)
            if adapter is not None:
                add_adapter(model, adapter)
            return dataclasses.replace(self, model=model, adapter=adapter)
        shared: dict[int, Any] = {
            id(weight): torch.nn.Parameter(weight.detach(), requires_grad=weight.requires_grad)
            for weight in self.model.parameters()
        }
        model = copy.deepcopy(self.model, shared)
        if adapter is None:
            freeze(model, train_layers)
            if not embeddings:
                freeze_embeddings(model)
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
        if self.model.generation_config is not None:
            self.model.generation_config.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        # A hub model that transformers knows by now may still name the code that it once came with.
        remove_named_code(folder)

    def share(self, folder: Path) -> None:
        """Write all of it into `folder` as transformers loads it: safetensors, configuration, tokenizer.

        The prompt template goes with the configuration, so that it stays with the model if others tune it further. Of a
        model with an adapter, the adapter is written alone, as peft loads it.
        """
        if self.adapter is not None:
            save_adapter(self.model, self.adapter, folder, base=self.name, revision=self.revision)
            self.tokenizer.save_pretrained(folder)
            return
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        path = folder / "config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        config[TEMPLATE_KEY] = self.template.as_json()
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def load_language_model(
    name: str = TINY,
    *,
    revision: str | None = None,
    dtype: torch.dtype = torch.float32,
    quantize: Quantization | None = None,
) -> LanguageModel:
    """Load a causal or encoder-decoder language model with its tokenizer.

    Args:
        name: `heed-tiny`, `heed-tiny-random`, a folder with a Hugging Face model, or a hub id such as
            `Qwen/Qwen2.5-0.5B`, which `Qwen/Qwen2.5-0.5B@REVISION` asks for in one revision.
        revision: of a hub model: a branch, a tag or a commit.
        dtype: of the weights.
        quantize: round the weights to 8 or 4 bits, on a GPU only (`heed.policies.quantization`).

    No code of the model's own is run, and no pickled weights are read: those must be safetensors.

    Raises:
        LanguageModelError: if there is no such model, no network, it needs code of its own, its weights are pickled, or
            it gives texts no likelihood; if there is no GPU to quantize on.
    """
    if quantize is not None:
        try:
            quantization.require_quantization(quantize)
        except ValueError as error:
            raise LanguageModelError(str(error)) from None
    name, revision = _split_revision(name, revision)
    if name in (TINY, TINY_RANDOM):
        if revision is not None or quantize is not None:
            what = "revision" if revision is not None else "weights to be quantized"
            raise LanguageModelError(f"{name} ships with heed and has no {what}.")
        return _load_tiny(name, dtype)
    folder = Path(name).expanduser()
    if _looks_like_path(name) and not folder.is_dir():
        raise LanguageModelError(f"There is no model folder {name!r}. Give a folder with config.json and weights.")
    if folder.is_dir() and revision is not None:
        raise LanguageModelError(
            f"{name!r} is a folder here, so it has no revision {revision!r}: leave it out, or give a hub id."
        )
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
        attention = _attention_of(config)
        model = _auto_class(config).from_pretrained(
            **source,
            config=config,
            attn_implementation=attention,
            use_safetensors=True,
            **{"dtype": dtype, **quantization.loading(quantize)},
        )
    except (OSError, ValueError) as error:
        raise LanguageModelError(_explain(name, revision, error)) from error
    model.eval()
    if quantize is not None:
        model.requires_grad_(False)
    if config.is_encoder_decoder:
        try:
            decoder_start(model)
        except ValueError as error:
            raise LanguageModelError(f"{name!r} cannot be used: {error}.") from None
    if not config.is_encoder_decoder and not _is_causal(model):
        raise LanguageModelError(
            f"{name!r} reads its text in both directions, so it gives words no likelihood: "
            "give a causal or an encoder-decoder language model."
        )
    return LanguageModel(model, tokenizer, name, _template_of(config, name), revision=revision, quantized=quantize)


def language_model_without_weights(
    name: str = TINY, *, revision: str | None = None, dtype: torch.dtype = torch.float32
) -> LanguageModel:
    """Return a language model as its configuration describes it, whose weights nobody reads.

    To be called where tensors take no memory: under `torch.device("meta")`, or in a `FakeTensorMode`. The arguments are
    those of `load_language_model`; of a hub model, configuration and tokenizer are all that is fetched.

    Raises:
        LanguageModelError: if there is no such model, or no network.
    """
    name, revision = _split_revision(name, revision)
    if name in (TINY, TINY_RANDOM):
        source: dict[str, Any] = {"pretrained_model_name_or_path": str(tiny.FOLDER)}
    else:
        folder = Path(name).expanduser()
        if _looks_like_path(name) and not folder.is_dir():
            raise LanguageModelError(f"There is no model folder {name!r}. Give a folder with config.json.")
        source = {"pretrained_model_name_or_path": str(folder) if folder.is_dir() else name, "revision": revision}
    source["trust_remote_code"] = False
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(**source)
        if name in (TINY, TINY_RANDOM):
            config, template = tiny.configuration(len(tokenizer)), tiny.TEMPLATE
        else:
            config = AutoConfig.from_pretrained(**source)
            template = _template_of(config, name)
        model = _auto_class(config).from_config(
            config, attn_implementation=_attention_of(config), dtype=dtype, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise LanguageModelError(_explain(name, revision, error)) from error
    return LanguageModel(model.eval(), tokenizer, name, template, revision=revision)


def as_trained(
    model: str | LanguageModel,
    train_layers: int | None,
    adapter: Adapter | None,
    *,
    embeddings: bool = True,
    weights: Weights = "float32",
) -> LanguageModel:
    """Return a language model for a policy: one loaded by name, or a copy of one that is given (`for_training`).

    One that is given keeps its weights as they are, unless they are to be bfloat16 and are not.
    """
    dtype = weights_dtype(weights)
    language_model = load_language_model(model, dtype=dtype) if isinstance(model, str) else model
    if weights == "bfloat16" and language_model.model.dtype != dtype:
        language_model = language_model.stored_in(dtype)
    if isinstance(model, str) and train_layers is None and adapter is None and embeddings:
        return language_model  # nobody else has it
    return language_model.for_training(train_layers, adapter, embeddings=embeddings)


def _split_revision(name: str, revision: str | None) -> tuple[str, str | None]:
    """Return a model's name and its revision, which may stand behind an @ of the name."""
    before, at, behind = name.rpartition("@")
    if not at or Path(name).expanduser().is_dir():
        return name, revision
    if not before or not behind:
        raise LanguageModelError(f"{name!r} is no language model: give a name, or name@revision.")
    if revision not in (None, behind):
        raise LanguageModelError(f"{name!r} names another revision than {revision!r}: give one of the two.")
    return before, behind


def _template_of(config: PretrainedConfig, name: str) -> PromptTemplate:
    """Return the template that a shared model was trained with, for any other model the plain one."""
    saved = getattr(config, TEMPLATE_KEY, None)
    if saved is None:
        return TEMPLATE
    try:
        return PromptTemplate.from_json(saved)
    except TemplateError as error:
        raise LanguageModelError(
            f"The {TEMPLATE_KEY} in the configuration of {name!r} cannot be used: {error}"
        ) from None


def _auto_class(config: PretrainedConfig) -> Any:
    return AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM


def _attention_of(config: PretrainedConfig) -> str:
    """Return `sdpa`, or what computes attention in models that it cannot serve, such as Gemma 2."""
    kind = _auto_class(config)._model_mapping.get(type(config), None)
    return "sdpa" if kind is None or getattr(kind, "_supports_sdpa", False) else "eager"


def _is_causal(model: PreTrainedModel) -> bool:
    """Say whether what comes later in a text leaves the model's output before it alone."""
    device = model.device
    with torch.no_grad():
        first, second = (
            model(torch.tensor([tokens], device=device)).logits[0, :3] for tokens in ([1, 2, 3, 4], [1, 2, 3, 5])
        )
    return bool(torch.allclose(first, second, atol=1e-3, rtol=1e-3))


def _load_tiny(name: str, dtype: torch.dtype) -> LanguageModel:
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(tiny.FOLDER)
    model = tiny.new_model(len(tokenizer), seed=0)
    if name == TINY:
        load_model(model, tiny.FOLDER / "model.safetensors")
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    model.train(False)
    return LanguageModel(model, tokenizer, name, tiny.TEMPLATE)


def rebuild_language_model(
    folder: Path, name: str, template: PromptTemplate, *, tied: bool | None = None
) -> LanguageModel:
    """Build the language model that `LanguageModel.save` described in `folder`, with weights still to be loaded.

    Args:
        folder: of configuration and tokenizer.
        name: of the language model.
        template: of its prompts.
        tied: whether its output embedding is its input embedding; None where the configuration says it.
    """
    # A checkpoint may be a stranger's: nothing that it names is to be run.
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    model = _auto_class(config).from_config(config, attn_implementation=_attention_of(config), trust_remote_code=False)
    if (folder / "generation_config.json").exists():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    language_model = LanguageModel(model.eval(), tokenizer, name, template)
    if tied is False and language_model.tied:
        head = model.get_output_embeddings()
        head.weight = torch.nn.Parameter(head.weight.detach().clone())
    return language_model


def read_shared_language_model(folder: Path, name: str, template: PromptTemplate) -> LanguageModel:
    """Load the language model that `LanguageModel.share` wrote into `folder`, with weights of the type they have.

    Raises:
        LanguageModelError: if its files are missing or damaged.
    """
    # As above: safetensors only, and no code from the folder.
    plain: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
    try:
        config = AutoConfig.from_pretrained(folder, **plain)
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, **plain)
        model = _auto_class(config).from_pretrained(
            folder,
            config=config,
            dtype="auto",
            attn_implementation=_attention_of(config),
            use_safetensors=True,
            **plain,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise LanguageModelError(f"{folder} holds no whole language model: {_first_line(error)}") from error
    return LanguageModel(model.eval(), tokenizer, name, template)


def _looks_like_path(name: str) -> bool:
    return name.startswith((".", "~", os.sep)) or name.count("/") > 1


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _explain(name: str, revision: str | None, error: Exception) -> str:
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
    where = "" if revision is None else f" in the revision {revision!r}"
    return (
        f"Cannot load the language model {name!r}{where}: it is neither {TINY!r} nor a folder here, and the Hugging "
        f"Face hub did not give it (is the name right, and is there a network?). {first_line}"
    )
