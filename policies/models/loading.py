"""Loads language models by name, local path or hub id, from GGUF files, and from checkpoints."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_model
from torch._subclasses.fake_tensor import unset_fake_temporarily
from transformers import (
    AutoConfig,
    AutoTokenizer,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedTokenizerBase,
)

from heed.policies.backbones.encoder import is_encoder
from heed.policies.backbones.precision import weights_dtype
from heed.policies.backbones.sentence_encoder import USE, UseConfig, use_tokenizer
from heed.policies.model_options import ModelOptions
from heed.policies.models import quantization, tiny
from heed.policies.models.encoders import (
    POOLING_FILE,
    EncoderError,
    find_pooling,
    load_encoder,
    new_encoder,
    read_pooling,
    special_tokens,
)
from heed.policies.models.gguf.conversion import SUFFIX as GGUF_SUFFIX
from heed.policies.models.gguf.conversion import converted_folder
from heed.policies.models.gguf.smollm2 import CHAT as SMOLLM2_CHAT
from heed.policies.models.gguf.smollm2 import SMOLLM2, smollm2_file
from heed.policies.models.language_model import (
    DEFAULT_MODEL,
    ENCODER_TEMPLATE,
    TEMPLATE_KEY,
    TINY,
    TINY_RANDOM,
    WORDS,
    LanguageModel,
    LanguageModelError,
)
from heed.policies.models.minilm import MINILM, minilm_folder
from heed.policies.models.model_folder import ModelFilesError, damage, first_line
from heed.policies.models.pretrained import attention_of, auto_class, read_description, read_model, require_usable
from heed.policies.models.quantization import Quantization
from heed.policies.models.registry import PYTHON_FILE, Loader, loader_of
from heed.policies.models.use import UseError, use_vectors
from heed.policies.models.words import WORDS_FOLDER
from heed.policies.out_of_memory import is_out_of_memory
from heed.policies.prompts.prompt import TEMPLATE
from heed.policies.prompts.template import PromptTemplate, TemplateError


def load_language_model(
    name: str = DEFAULT_MODEL,
    *,
    revision: str | None = None,
    dtype: torch.dtype = torch.float32,
    quantize: Quantization | None = None,
) -> LanguageModel:
    """Load a causal, encoder-decoder or encoder language model with its tokenizer.

    Args:
        name: `heed-words`, `heed-tiny`, `heed-tiny-random`, `minilm` (`heed.policies.models.minilm`), `use`
            (`heed.policies.backbones.sentence_encoder`), `smollm2` (`heed.policies.models.gguf.smollm2`), one that is
            registered (`heed.policies.register_language_model`), a folder with a Hugging Face model, a GGUF file
            (`heed.policies.models.gguf.conversion`), or a hub id such as `Qwen/Qwen2.5-0.5B`, which
            `Qwen/Qwen2.5-0.5B@REVISION` asks for in one revision.
        revision: of a hub model: a branch, a tag or a commit.
        dtype: of the weights.
        quantize: round the weights to 8 or 4 bits, on a GPU only (`heed.policies.models.quantization`).

    No code of the model's own is run, and no pickled weights are read: those must be safetensors.

    Raises:
        LanguageModelError: if there is no such model, no network, it needs code of its own, its weights are pickled or
            not whole, or it is of no kind that is known here; if there is no GPU to quantize on.
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
    if name == USE:
        return _load_use(revision, dtype, quantize)
    if (load := loader_of(name)) is not None:
        if revision is not None or quantize is not None:
            raise LanguageModelError(f"{name} has a loader of its own, which knows no revision and does not quantize.")
        return _loaded_by(load, name, dtype)
    source = _source_of(name, revision)
    with _telling(name, revision):
        config, tokenizer = read_description(source)
        template = _template_of(config, name, tokenizer)
        if is_encoder(config):
            if quantize is not None:
                raise EncoderError("encoders are not quantized")
            encoder = load_encoder(config, source, dtype).eval()
            special_tokens(tokenizer)  # which are to stand around texts
            pooling = find_pooling(source)
            return LanguageModel(encoder, tokenizer, name, template, revision=revision, pooling=pooling)
        model = read_model(config, source, **{"dtype": dtype, **quantization.loading(quantize)})
        if quantize is not None:
            model.requires_grad_(False)
        require_usable(model)
    return LanguageModel(model, tokenizer, name, template, revision=revision, quantized=quantize)


def _loaded_by(load: Loader, name: str, dtype: torch.dtype) -> LanguageModel:
    """Return what a registered loader gives, under the name that it is registered by."""
    try:
        loaded = load(dtype)
    except Exception as error:  # somebody's own code
        if isinstance(error, LanguageModelError) or is_out_of_memory(error):
            raise
        told = f"{type(error).__name__}: {first_line(error)}"
        raise LanguageModelError(f"The loader of the language model {name!r} failed: {told}") from error
    if not isinstance(loaded, LanguageModel):
        raise LanguageModelError(
            f"The loader of the language model {name!r} returned {type(loaded).__name__}: it must return a "
            "heed.policies.LanguageModel."
        )
    loaded.name = name
    loaded.model.eval()
    return loaded


def language_model_without_weights(
    name: str = DEFAULT_MODEL, *, revision: str | None = None, dtype: torch.dtype = torch.float32
) -> LanguageModel:
    """Return a language model as its configuration describes it, whose weights nobody reads.

    To be called where tensors take no memory: under `torch.device("meta")`, or in a `FakeTensorMode`. The arguments are
    those of `load_language_model`; of a hub model, configuration and tokenizer are all that is fetched. One that is
    registered is loaded first, since nobody else knows how it is made.

    Raises:
        LanguageModelError: if there is no such model, or no network.
    """
    name, revision = _split_revision(name, revision)
    if loader_of(name) is not None:
        with unset_fake_temporarily():  # what only its loader can make, it makes with numbers
            loaded = load_language_model(name, revision=revision, dtype=dtype)
        weights: dict[int, Any] = {id(buffer): torch.empty_like(buffer) for buffer in loaded.model.buffers()}
        for weight in loaded.model.parameters():
            weights[id(weight)] = torch.nn.Parameter(torch.empty_like(weight), weight.requires_grad)
        loaded.model = copy.deepcopy(loaded.model, weights)
        return loaded
    if name == USE:
        encoder = new_encoder(UseConfig(), dtype).eval()
        return LanguageModel(encoder, use_tokenizer(), USE, ENCODER_TEMPLATE, pooling="cls")
    source = _source_of(str(tiny.FOLDER) if name in (TINY, TINY_RANDOM) else name, revision)
    with _telling(name, revision):
        config, tokenizer = read_description(source)
        template = _template_of(config, name, tokenizer)
        if name in (TINY, TINY_RANDOM):
            config, template = tiny.configuration(len(tokenizer)), tiny.TEMPLATE
        if is_encoder(config):
            encoder = new_encoder(config, dtype).eval()
            return LanguageModel(encoder, tokenizer, name, template, revision=revision, pooling=find_pooling(source))
        model = auto_class(config).from_config(
            config, attn_implementation=attention_of(config), dtype=dtype, trust_remote_code=False
        )
    return LanguageModel(model.eval(), tokenizer, name, template, revision=revision)


def options_for(language_model: LanguageModel, options: ModelOptions) -> ModelOptions:
    """Return how a policy uses this language model: nothing trains of one that has no weights to train.

    Raises:
        LanguageModelError: if the options ask for something that such a model does not have.
    """
    if language_model.backbone.trains:
        return options
    asked = {
        "train_layers": bool(options.train_layers),
        "adapter": options.adapter is not None,
        "weights": options.weights != "float32",
        "precision": options.precision == "bfloat16",
        "freeze_embeddings": options.freeze_embeddings,
        "compiled": options.compiled,
        "activation_checkpointing": options.activation_checkpointing,
    }
    told = [f"{name}={getattr(options, name)!r}" for name, given in asked.items() if given]
    if told:
        raise LanguageModelError(
            f"{language_model.name} is a frozen sentence encoder without layers or weights that {' and '.join(told)} "
            "could be about: leave it out."
        )
    return dataclasses.replace(options, train_layers=0)


def as_trained(model: str | LanguageModel, options: ModelOptions) -> LanguageModel:
    """Return a language model for a policy: one loaded by name, or a copy of one that is given (`for_training`).

    One that is given keeps its weights as they are, unless they are to be bfloat16 and are not; what was given away is
    not copied.
    """
    dtype = weights_dtype(options.weights)
    language_model = load_language_model(model, dtype=dtype).give_away() if isinstance(model, str) else model
    if options.weights == "bfloat16" and language_model.model.dtype != dtype:
        language_model = language_model.stored_in(dtype)
    options = options_for(language_model, options)
    return language_model.for_training(options.train_layers, options.adapter, embeddings=not options.freeze_embeddings)


def _split_revision(name: str, revision: str | None) -> tuple[str, str | None]:
    """Return a model's name and its revision, which may stand behind an @ of the name."""
    before, at, behind = name.rpartition("@")
    if not at or Path(name).expanduser().exists():
        return name, revision
    if not before or not behind:
        raise LanguageModelError(f"{name!r} is no language model: give a name, or name@revision.")
    if revision not in (None, behind):
        raise LanguageModelError(f"{name!r} names another revision than {revision!r}: give one of the two.")
    return before, behind


def _source_of(name: str, revision: str | None) -> dict[str, Any]:
    """Return where a model is, as `from_pretrained` takes it.

    Raises:
        LanguageModelError: if it is to be a folder here, and there is none that holds a whole model.
    """
    if PYTHON_FILE.fullmatch(name) and not Path(name).expanduser().is_dir():
        raise LanguageModelError(
            f"{name!r} is a language model of a Python file, which runs only where `--model` names it on the command "
            "line. In Python, load the model and pass it, or call heed.policies.register_language_model first."
        )
    folder = _folder_of(name)
    if _looks_like_path(name) and not folder.is_dir():
        raise LanguageModelError(f"There is no model folder {name!r}. Give a folder with config.json and weights.")
    if folder.is_dir() and revision is not None:
        raise LanguageModelError(
            f"{name!r} is a folder here, so it has no revision {revision!r}: leave it out, or give a hub id."
        )
    place = str(folder) if folder.is_dir() else name
    where = {"pretrained_model_name_or_path": place, "trust_remote_code": False}
    return where if revision is None else {**where, "revision": revision}


def _template_of(config: PretrainedConfig, name: str, tokenizer: PreTrainedTokenizerBase) -> PromptTemplate:
    """Return the template that a shared model was trained with, SmolLM2's chat, for any other model the plain one."""
    if name == SMOLLM2:
        return SMOLLM2_CHAT.template(tokenizer)
    saved = getattr(config, TEMPLATE_KEY, None)
    if saved is None:
        return ENCODER_TEMPLATE if is_encoder(config) else TEMPLATE
    try:
        return PromptTemplate.from_json(saved)
    except TemplateError as error:
        raise LanguageModelError(
            f"The {TEMPLATE_KEY} in the configuration of {name!r} cannot be used: {error}"
        ) from None


def _folder_of(name: str) -> Path:
    """Return the folder of a model that a package or a GGUF file holds, or that the name itself may be.

    Raises:
        LanguageModelError: if the package is not installed, or there is no such file, or it cannot be converted.
    """
    if name == WORDS:
        return WORDS_FOLDER
    try:
        if name == MINILM:
            return minilm_folder()
        file = smollm2_file() if name == SMOLLM2 else Path(name).expanduser()
    except FileNotFoundError as error:
        raise LanguageModelError(str(error)) from None
    if file.suffix.lower() != GGUF_SUFFIX or file.is_dir():
        return file
    if not file.is_file():
        raise LanguageModelError(f"There is no GGUF file {name!r}.")
    with _telling(name, None):
        return converted_folder(file)


def _load_use(revision: str | None, dtype: torch.dtype, quantize: Quantization | None) -> LanguageModel:
    if revision is not None or quantize is not None or dtype == torch.bfloat16:
        what = "no revision" if revision is not None else "no weights of its own to be rounded"
        raise LanguageModelError(f"{USE} is a frozen sentence encoder from a Python package, and has {what}.")
    try:
        use_vectors(["a"])  # is it there?
    except UseError as error:
        raise LanguageModelError(str(error)) from None
    return LanguageModel(new_encoder(UseConfig(), dtype).eval(), use_tokenizer(), USE, ENCODER_TEMPLATE, pooling="cls")


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
    if is_encoder(config):
        pooling = read_pooling(folder / POOLING_FILE)
        return LanguageModel(new_encoder(config).eval(), tokenizer, name, template, pooling=pooling)
    model = auto_class(config).from_config(config, attn_implementation=attention_of(config), trust_remote_code=False)
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
    source = {"pretrained_model_name_or_path": str(folder), "trust_remote_code": False, "local_files_only": True}
    with _telling(str(folder), None):
        config, tokenizer = read_description(source)
        if is_encoder(config):
            encoder = load_encoder(config, source, "auto").eval()
            return LanguageModel(encoder, tokenizer, name, template, pooling=read_pooling(folder / POOLING_FILE))
        model = read_model(config, source, dtype="auto")
    return LanguageModel(model, tokenizer, name, template)


@contextlib.contextmanager
def _telling(name: str, revision: str | None) -> Iterator[None]:
    """Turn what transformers makes of a model's files, whatever that is, into a sentence that names what is wrong.

    Raises:
        LanguageModelError: in place of any other error but those of memory.
    """
    try:
        yield
    except (LanguageModelError, MemoryError):
        raise
    except EncoderError as error:
        raise LanguageModelError(f"The encoder {name!r} cannot be used: {error}.") from error
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise LanguageModelError(_explain(name, revision, error)) from error


def _looks_like_path(name: str) -> bool:
    return name.startswith((".", "~", os.sep)) or name.count("/") > 1


def _explain(name: str, revision: str | None, error: Exception) -> str:
    told = first_line(error)
    if "trust_remote_code" in str(error):
        return (
            f"The language model {name!r} needs code of its own, which heed does not run: give one whose architecture "
            "transformers has."
        )
    folder = Path(name).expanduser()
    if isinstance(error, ModelFilesError):
        return f"The language model {name!r} cannot be used: {error}."
    # A hub model's files are not here to be looked at.
    damaged = damage(folder) if folder.is_dir() else None
    if damaged is not None:
        return f"The folder {name!r} holds no whole language model with its tokenizer: {damaged}"
    pickled = any(folder.glob("*.bin")) if folder.is_dir() else "safetensors" in str(error)
    if pickled and not isinstance(error, ImportError):
        return (
            f"The language model {name!r} has no weights as safetensors. Pickled ones (pytorch_model.bin) can run "
            "code, so heed does not read them: load the model with transformers where you trust it, and save it with "
            f"`save_pretrained`. {told}"
        )
    if isinstance(error, ImportError):
        return f"The language model {name!r} needs a library that is not installed: {told}"
    if folder.is_dir():
        return f"The folder {name!r} holds no whole language model with its tokenizer: {told}"
    if not isinstance(error, OSError | ValueError):
        return f"The language model {name!r} cannot be loaded: {type(error).__name__}: {told}"
    where = "" if revision is None else f" in the revision {revision!r}"
    return (
        f"Cannot load the language model {name!r}{where}: it is neither {DEFAULT_MODEL!r} nor a folder here, and the "
        f"Hugging Face hub did not give it (is the name right, and is there a network?). {told}"
    )
