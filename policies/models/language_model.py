"""Language models: any causal, encoder-decoder or encoder model by name, path or hub id."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from heed.policies.adapters.adapters import Adapter, AdapterError, add_adapter, is_of_adapter, save_adapter
from heed.policies.backbones.backbone import Backbone, backbone_of
from heed.policies.backbones.encoder import is_encoder
from heed.policies.caches.frozen import freeze, freeze_embeddings
from heed.policies.caches.weights_watch import WeightsWatch
from heed.policies.heads.scoring import Normalization
from heed.policies.heads.trie import ActionTrie, close_prefixes
from heed.policies.modalities.modality import Modality
from heed.policies.models import minilm, quantization
from heed.policies.models.encoders import (
    PairEndings,
    Pooling,
    special_tokens,
    write_pooling,
)
from heed.policies.models.foreign_code import remove_named_code
from heed.policies.models.gguf import smollm2
from heed.policies.models.positions import ActionRoom
from heed.policies.models.quantization import Quantization
from heed.policies.prompts.lines import LinesEncoder
from heed.policies.prompts.prompt import TEMPLATE, PromptEncoder
from heed.policies.prompts.segments import SEGMENTS, SegmentEncoder
from heed.policies.prompts.template import Chat, FilledTemplate, PromptTemplate, Template
from heed.policies.prompts.text_tokens import TextTokens
from heed.policies.words.model import WordsModel

WORDS = "heed-words"
"""The name of the language model that ships with Heed and is the default: it knows any words."""

TINY = "heed-tiny"
"""The name of another, which knows the words of Heed's own environments: the ablation."""

TINY_RANDOM = "heed-tiny-random"
"""The same without pretraining."""

DEFAULT_MODEL = WORDS
"""What an agent has unless another model is named."""

SHIPPED = (WORDS, TINY, TINY_RANDOM)
"""The names of all that ship with Heed."""


_OTHER_ENDS = (":", "\n", ".", "a", "0")
"""Texts behind which an action's tokens are looked for where the prompt's own end would change."""

ENCODER_TEMPLATE = PromptTemplate("Instruction: {instruction}\nObservation: {observation}")
"""The prompt for an encoder: nothing goes on behind it."""

HUB_IDS = {minilm.MINILM: minilm.HUB_ID, smollm2.SMOLLM2: smollm2.HUB_ID}
"""What models that packages carry are called on the hub, for whoever loads an adapter's base with other libraries."""

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
    template: PromptTemplate = TEMPLATE
    adapter: Adapter | None = None
    """What is in the model and trains instead of its own weights, if there is one."""
    adapted_layers: int | None = None
    """How many of the top layers have it; None for all."""
    revision: str | None = None
    """Of a hub model."""
    quantized: Quantization | None = None
    """How many bits its own weights are rounded to, where they are."""
    pooling: Pooling = "mean"
    """How an encoder's vector comes of its tokens' states; of no meaning to other models."""
    _hashed: tuple[WeightsWatch, str] | None = dataclasses.field(default=None, init=False, repr=False)
    """The fingerprint, and what tells whether it still holds."""
    _given_away: bool = dataclasses.field(default=False, init=False, repr=False)
    """Whether a policy may train it as it is."""
    _text_tokens: dict[PromptTemplate, TextTokens] = dataclasses.field(default_factory=dict, init=False, repr=False)
    """What turns the texts of actions into tokens, behind prompts of a template."""

    @property
    def backbone(self) -> Backbone:
        """The facts about the model's architecture."""
        return backbone_of(self.model)

    @property
    def vocabulary(self) -> int:
        """How many tokens the model's embedding has; tokenizers may use fewer."""
        return self.backbone.vocabulary

    @property
    def tied(self) -> bool:
        """Whether the output embedding is the input embedding.

        What the configuration says of it need not be so: transformers 5 leaves them apart where the weights that it
        loads differ, as those of Flan-T5 do.
        """
        embedding, head = self.model.get_input_embeddings(), self.model.get_output_embeddings()
        return head is not None and head.weight is embedding.weight

    def encoder(
        self,
        *,
        template: Template | None = None,
        max_tokens: int = 256,
        modalities: tuple[Modality, ...] = (),
        segments: bool = False,
    ) -> PromptEncoder:
        """Return an encoder that makes this model's prompts, at most `max_tokens` long, of words and other modalities.

        With `segments` they tell the instruction and the parts of the observation apart, which an encoder reads one by
        one (`heed.policies.prompts.segments`).

        Raises:
            LanguageModelError: if a prompt may hold tokens that the model has no embeddings for, or more of them than
                it reads.
            TemplateError: if the template cannot be used.
            ValueError: if another model than an encoder is to read segments.
        """
        encoder = self._encoder(template, max_tokens, modalities, segments)
        self._require_embedded(encoder.largest_id)
        return encoder

    def _encoder(
        self, template: Template | None, max_tokens: int, modalities: tuple[Modality, ...], segments: bool
    ) -> PromptEncoder:
        if segments:
            if not is_encoder(self.model.config):
                raise ValueError(f"{self.name} is no encoder: only an encoder reads an observation in segments.")
            around = sum(map(len, special_tokens(self.tokenizer)))
            most = (self.backbone.most_tokens or max_tokens + around) - around
            return SegmentEncoder(
                self.tokenizer, template=template or SEGMENTS, max_tokens=max_tokens, most=most, modalities=modalities
            )
        limit = self.backbone.most_tokens
        if limit is not None and max_tokens > limit:
            raise LanguageModelError(
                f"{self.name} takes at most {limit} tokens, but prompts may have {max_tokens}: lower max_prompt_tokens."
            )
        before = sum(modality.soft_tokens for modality in modalities)
        kind = LinesEncoder if isinstance(self.model, WordsModel) else PromptEncoder
        return kind(
            self.tokenizer,
            template=template or self.template,
            max_tokens=max_tokens,
            closed=self.backbone.closes_prompts,
            modalities=modalities,
            action_room=self.action_room(template, before) if any(one.choices for one in modalities) else None,
        )

    def action_room(self, template: Template | None = None, before: int = 0) -> ActionRoom | None:
        """Return what tells how long a prompt may be for its actions to have room; None where there is room for any.

        Args:
            template: of the prompts; the model's own unless given.
            before: soft tokens that stand before each prompt.
        """
        positions = self.backbone.most_tokens
        if positions is None or not self.backbone.actions_stand_behind:
            return None
        positions -= before
        if not self.backbone.gives_likelihoods:
            endings = PairEndings(self.tokenizer)
            return ActionRoom(positions, lambda text: len(endings.of(text)))
        of_tokenizer = template.template(self.tokenizer) if isinstance(template, Chat) else template
        written = self.template if of_tokenizer is None else PromptTemplate.of(of_tokenizer)
        # The last token is never read, but an end token may close an action that is the beginning of another.
        return ActionRoom(positions, lambda text: len(self.action_tokens([text], written)[0]))

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
        known = self._text_tokens.get(template)
        if known is None:
            known = self._text_tokens[template] = TextTokens(self.tokenizer, template)
        if not self.backbone.actions_stand_behind:
            return [known.of(text) for text in texts]
        end = template.format(instruction="a", observation="a")
        others = [FilledTemplate(other) for other in _OTHER_ENDS]
        found, torn = [], []
        for text in texts:
            tokens = _tokens_behind(known, end, template.before_action, text)
            if tokens is None:
                torn.append(text)
                behind = (_tokens_behind(known, other, template.before_action, text) for other in others)
                alone = FilledTemplate().followed_by(template.before_action, text)
                tokens = next((one for one in behind if one is not None), known.of(alone))
            found.append(tokens)
        if torn:
            warnings.warn(
                f"The tokenizer of {self.name} makes one token of the end of a prompt, {end[-12:]!r}, and the "
                f"beginning of the action {torn[0]!r}. Actions are scored behind the prompt's own tokens, as this "
                "model has hardly seen them: let the template end otherwise.",
                stacklevel=2,
            )
        return found

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
            LanguageModelError: if an action has tokens that the model has no embeddings for.
            ValueError: if two texts that are to be `distinct` cannot be told apart by their tokens.
        """
        actions = self.action_tokens(texts, template)
        if normalization == "constrained":
            actions = close_prefixes(actions, self.tokenizer.eos_token_id)
        self._require_embedded(max((token for action in actions for token in action), default=0))
        return ActionTrie.build(actions, distinct=distinct)

    def _require_embedded(self, largest: int) -> None:
        """Refuse token ids up to `largest` if the model has no embeddings for them; ids that nothing uses may be so."""
        if largest < self.vocabulary:
            return
        more = len(self.tokenizer) - self.vocabulary
        raise LanguageModelError(
            f"{self.name} cannot read what its tokenizer writes: that has {more} token{'s' if more != 1 else ''} more "
            f"than the model's embedding, which has {self.vocabulary}, and prompts or actions may hold one of them, "
            f"{self.tokenizer.convert_ids_to_tokens(largest)!r} ({largest}). Take the tokenizer that the model was "
            "trained with, or call `resize_token_embeddings` and train the new embeddings first."
        )

    def copy(self, *, shares_frozen: bool = True) -> LanguageModel:
        """Return the same language model with weights of its own.

        Args:
            shares_frozen: let those that do not train be the same in both. Quantized ones always are.
        """
        if self.quantized is not None:
            return dataclasses.replace(self, model=quantization.copy_of(self.model))
        weights = self.model.parameters() if shares_frozen else ()
        shared: dict[int, Any] = {id(weight): weight for weight in weights if not weight.requires_grad}
        return dataclasses.replace(self, model=copy.deepcopy(self.model, shared))

    def give_away(self) -> LanguageModel:
        """Let the first policy that this is given to train it as it is, where others train a copy; return it.

        Who loads a model for one policy gives it away, so that there is one in memory and not two. Who gives it away
        must not use it for anything else.
        """
        self._given_away = True
        return self

    def stored_in(self, dtype: torch.dtype) -> LanguageModel:
        """Return the same language model with its own weights stored in another type; an adapter's stay as they are.

        It is a copy, which is given away, unless this one was.
        """
        stored = self
        if not self._given_away:
            stored = dataclasses.replace(self, model=copy.deepcopy(self.model)).give_away()
        for weight in stored.own_weights().values():
            weight.data = weight.data.to(dtype)
        return stored

    def for_training(
        self, train_layers: int | None = None, adapter: Adapter | None = None, *, embeddings: bool = True
    ) -> LanguageModel:
        """Return the same language model, of which only a part trains. That part is its own, the rest is shared.

        This one is left as it is, and must be: were its weights changed, the other's would be, too. One that was given
        away is returned itself.

        Args:
            train_layers: how many of the top layers train, or get the adapter; None for the whole model.
            adapter: is put into the model, and trains instead of its weights.
            embeddings: whether embeddings train, those of tokens and of places, and the output embedding where it is
                the input's. With `train_layers` or an adapter they do not.

        Raises:
            AdapterError: if the model has an adapter already, takes none of that kind, or not in so many layers; if
                weights of few bits are to train.
            ValueError: if the model has no such layers.
        """
        if self.adapter is not None and adapter is not None:
            raise AdapterError(f"{self.name} has an adapter already.")
        if self.quantized is not None and adapter is None and self.adapter is None:
            raise AdapterError(
                f"The weights of {self.name} are rounded to {self.quantized}, so they cannot train: give an adapter."
            )
        is_whole = self.adapter is not None or (train_layers is None and adapter is None and embeddings)
        own = self
        if not self._given_away:
            own = self.copy() if is_whole or self.quantized is not None else self._sharing_all()
        own._given_away, own._hashed = False, None
        if adapter is not None:
            add_adapter(own.model, adapter, layers=train_layers)
            own.adapter, own.adapted_layers = adapter, train_layers
        elif not is_whole:
            freeze(own.model, train_layers)
            if not embeddings:
                freeze_embeddings(own.model)
            if own is not self:
                for weight in own.model.parameters():
                    if weight.requires_grad:
                        weight.data = weight.data.clone()
        return own

    def _sharing_all(self) -> LanguageModel:
        """Return the same language model with parameters of its own, which have the same memory."""
        shared: dict[int, Any] = {
            id(weight): torch.nn.Parameter(weight.detach(), requires_grad=weight.requires_grad)
            for weight in self.model.parameters()
        }
        return dataclasses.replace(self, model=copy.deepcopy(self.model, shared))

    def own_weights(self) -> dict[str, torch.nn.Parameter]:
        """Return the weights that are the model's and not its adapter's, by their names in it."""
        return {name: weight for name, weight in self.model.named_parameters() if not is_of_adapter(name)}

    def fingerprint(self) -> str:
        """Return the SHA-256 of the model's own weights and their names, the same with an adapter and without.

        It is computed anew only if a weight has changed: each checkpoint of an adapter asks for it.
        """
        if self._hashed is not None and not self._hashed[0].changed():
            return self._hashed[1]
        own = self.own_weights()
        watch = WeightsWatch(self.model, skip={name for name, _ in self.model.named_parameters()} - own.keys())
        watch.changed()  # from now on
        digest = hashlib.sha256()
        for name, weight in sorted((name.replace(".base_layer.", "."), w) for name, w in own.items()):
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
        if is_encoder(self.model.config):
            write_pooling(folder, self.pooling, self.model.config.hidden_size)
        # A hub model that transformers knows by now may still name the code that it once came with.
        remove_named_code(folder)

    def share(self, folder: Path) -> None:
        """Write all of it into `folder` as transformers loads it: safetensors, configuration, tokenizer.

        The prompt template goes with the configuration, so that it stays with the model if others tune it further. Of a
        model with an adapter, the adapter is written alone, as peft loads it.
        """
        if self.adapter is not None:
            base = HUB_IDS.get(self.name, self.name)
            layers = self.adapted_layers
            save_adapter(self.model, self.adapter, folder, base=base, revision=self.revision, layers=layers)
            self.tokenizer.save_pretrained(folder)
            return
        if self.backbone.trains:
            self.model.save_pretrained(folder)
        else:  # its weights lie in a package, and stay there
            self.model.config.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        if is_encoder(self.model.config):
            write_pooling(folder, self.pooling, self.model.config.hidden_size)
        path = folder / "config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        config[TEMPLATE_KEY] = self.template.as_json()
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _tokens_behind(texts: TextTokens, before: FilledTemplate, own: str, text: str) -> list[int] | None:
    """Return the tokens that `own` and then `text` add to those of `before`; None if they change these."""
    known, whole = texts.of(before), texts.of(before.followed_by(own, text))
    return whole[len(known) :] if whole[: len(known)] == known else None
