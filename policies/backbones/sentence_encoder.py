"""`--model use`: the multilingual Universal Sentence Encoder as a language model, whose numbers are computed by NumPy.

To Heed and to transformers it looks like any other encoder: a configuration, a tokenizer, token ids in, vectors out.
But it has no weights of its own, for they lie in the package that computes the vectors (`heed.policies.models.use`).
The configuration names them by their SHA-256, so a checkpoint is small, and is refused where its agent would read
other vectors than those that it learned on.

Its tokens are the bytes of a text, so that a row of ids holds the text as it is, and a separator.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode
from transformers.modeling_outputs import BaseModelOutput

from heed.policies.backbones.backbone import register_backbone
from heed.policies.backbones.encoder import Encoder
from heed.policies.models.use import FILES, USE_WIDTH, UseError, use_vectors

USE = "use"
"""The name under which `load_language_model` knows it."""

KIND = "universal-sentence-encoder"
"""What configurations call it."""

BYTES = 256
"""Tokens 0 to 255 are the bytes of UTF-8."""
SPECIAL = ("[PAD]", "[SEP]")
"""The tokens behind them."""


class UseConfig(PretrainedConfig):
    """The configuration: which encoder it is.

    Args:
        files: the SHA-256 of the files that it is made of; by default of those that are installed.
        more: as of any configuration.
    """

    model_type = KIND

    def __init__(self, files: Mapping[str, str] | None = None, **more: Any):
        self.files = dict(FILES if files is None else files)
        self.vocab_size = BYTES + len(SPECIAL)
        self.hidden_size = USE_WIDTH
        self.num_hidden_layers = 0
        super().__init__(**{"pad_token_id": BYTES, **more})


class UseModel(PreTrainedModel):
    """The encoder.

    Raises:
        UseError: if the configuration is of another encoder than the one here.
    """

    config_class = UseConfig

    def __init__(self, config: UseConfig):
        if config.files != FILES:
            raise UseError(
                "This agent learned on the vectors of another sentence encoder than Heed has here (the SHA-256 of its "
                "weights differs): install the version of Heed that it was trained with."
            )
        super().__init__(config)
        self.register_buffer("_place", torch.empty(0), persistent=False)
        self.post_init()  # type: ignore[no-untyped-call]

    @property
    def device(self) -> torch.device:
        """Where its vectors are wanted; they are always computed by the CPU."""
        return self._buffers["_place"].device  # type: ignore[union-attr]

    @property
    def dtype(self) -> torch.dtype:
        """The type of its vectors."""
        return self._buffers["_place"].dtype  # type: ignore[union-attr]

    def _init_weights(self, module: torch.nn.Module) -> None:
        """There are none."""

    def get_input_embeddings(self) -> None:  # type: ignore[override]
        """Return None: no token has a vector of its own."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> BaseModelOutput:
        """Return the vectors of texts as if they were their only tokens' states, (B, 1, E).

        Args:
            input_ids: the texts' bytes, (B, S).
            attention_mask: which of them are no padding, (B, S).
        """
        place = self._buffers["_place"]
        assert place is not None
        if (
            isinstance(place, FakeTensor) or place.is_meta
        ):  # an estimate of memory: there are no numbers, and NumPy needs some
            return BaseModelOutput(last_hidden_state=place.new_empty(len(input_ids), 1, USE_WIDTH))
        texts = [
            bytes(row[real].tolist()).decode(errors="replace")  # a segment that was cut may end within a letter
            for row, real in zip(input_ids.cpu(), attention_mask.cpu().bool(), strict=True)
        ]
        vectors = torch.from_numpy(use_vectors(texts)).to(place)
        return BaseModelOutput(last_hidden_state=vectors[:, None])


@register_backbone
class SentenceEncoder(Encoder):
    """An encoder without weights that could train, and without states of tokens."""

    trains: ClassVar[bool] = False
    prompt_tokens: ClassVar[int] = 1024  # of single bytes
    description = "is a frozen sentence encoder"

    @classmethod
    def fits(cls, config: PretrainedConfig) -> bool:
        """Say whether it is this one."""
        return isinstance(config, UseConfig)

    @property
    def width(self) -> int:
        """E."""
        return USE_WIDTH

    @property
    def vocabulary(self) -> int:
        """Bytes, and special tokens."""
        return int(self.model.config.vocab_size)


def use_tokenizer() -> PreTrainedTokenizerBase:
    """Return the tokenizer: every byte is a token, and decoding gives the text back."""
    inner = Tokenizer(models.BPE(vocab={letter: byte for byte, letter in bytes_to_unicode().items()}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL])
    pad, separator = SPECIAL
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token=pad,
        sep_token=separator,
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )
    # transformers notes in a tokenizer's files that it was read from a folder. So it is read from one here too:
    # checkpoints of a training that was resumed are, byte by byte, those of one that never was.
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        read: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    read.name_or_path = USE
    return read


AutoConfig.register(KIND, UseConfig)
AutoModel.register(UseConfig, UseModel)
