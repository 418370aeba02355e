"""`python -m tools.binding`: make `heed-words`, tokenizer, weights and card, from scenes of WordNet's words.

    python -m tools.binding --wordnet /usr/share/wordnet --out policies/models/heed_words

Half an hour on one core.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import tyro
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from heed.policies.models.language_model import TEMPLATE_KEY
from heed.policies.models.use import use_encoder
from heed.policies.words.building import SceneBuilder
from heed.policies.words.model import WordsConfig, WordsModel
from heed.policies.words.vectors import WordVectors
from tools.binding.lexicon import Lexicon, load_lexicon, words_of_files
from tools.binding.phrases import HELD_OUT, TRAIN
from tools.binding.pretrain import Binding, Training, accuracies, train
from tools.binding.scenes import FAMILIES, HELD_OUT_FAMILIES, Drawer, draw

EVALUATED = ("evaluation/axes/*.yaml", "examples/worlds/*.py")
"""Files whose words no pretraining may use, from the repository's root."""


@dataclass(frozen=True, kw_only=True)
class BindingConfig:
    """Pretrain heed-words on scenes of words."""

    wordnet: Path
    """Folder of WordNet's files."""
    out: Path
    """Folder for the model, its tokenizer and card.json."""
    steps: int = 12_000
    """Updates."""
    batch_size: int = 64
    """Scenes in an update."""
    learning_rate: float = 1.5e-3
    """The highest."""
    width: int = 64
    """D"""
    layers: int = 3
    vocabulary: int = 8192
    """Of the tokenizer."""
    scored: int = 500
    """Scenes of each family and split that the card's scores are of."""
    every: int = 400
    """Updates between two scores."""
    seed: int = 0
    """Of everything random."""


def main(config: BindingConfig) -> None:
    """Train the model and write it."""
    torch.manual_seed(config.seed)
    start = time.process_time()
    root = Path(__file__).parents[2]
    evaluated = words_of_files(path for pattern in EVALUATED for path in sorted(root.glob(pattern)))
    lexicon = load_lexicon(config.wordnet, "train", evaluated=evaluated)
    held_out = load_lexicon(config.wordnet, "held out", evaluated=evaluated)
    mean = _in_batches([word for words in lexicon.words.values() for word in words]).mean(axis=0)
    model = WordsModel(
        WordsConfig(hidden_size=config.width, num_hidden_layers=config.layers, vocab_size=config.vocabulary)
    )
    model.mean.copy_(torch.from_numpy(mean))
    vectors = WordVectors(mean, _in_batches)
    binding = Binding(model, SceneBuilder(vectors), np.random.default_rng(config.seed + 5))
    scored = _scored(lexicon, held_out, config)
    drawer = Drawer(lexicon, TRAIN, config.seed + 1)
    training = Training(steps=config.steps, batch_size=config.batch_size, learning_rate=config.learning_rate)
    running = None
    for step, loss in train(binding, lambda: draw(drawer), training):
        running = loss if running is None else 0.99 * running + 0.01 * loss
        if step % config.every == 0:
            found = {name: accuracies(binding, scenes[:100])[0] for name, scenes in scored["words"].items()}
            told = " ".join(f"{name} {value:.2f}" for name, value in found.items())
            print(
                f"{step} updates, {time.process_time() - start:.0f} s, loss {running:.3f}, held-out words: {told}",
                flush=True,
            )
            _write(config, model)
    scores = {
        split: {name: _named(accuracies(binding, scenes)) for name, scenes in families.items()}
        for split, families in scored.items()
    }
    _write(config, model)
    _tokenizer(config).save_pretrained(config.out)
    card = {
        "command": "python -m tools.binding",
        "configuration": {k: str(v) for k, v in asdict(config).items() if k not in ("wordnet", "out")},
        "seconds": round(time.process_time() - start),
        "words": {kind: len(words) for kind, words in lexicon.words.items()},
        "held out": {kind: len(words) for kind, words in held_out.words.items()},
        "scores": scores,
    }
    (config.out / "card.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def _in_batches(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """Return vectors of texts, (N, E), which depend on the others in their last bits: here nothing depends on these."""
    return np.asarray(use_encoder().encode(list(texts)), dtype=np.float32)


def _scored(lexicon: Lexicon, held_out: Lexicon, config: BindingConfig) -> dict[str, dict[str, Any]]:
    """Return scenes to measure with: with words held out, with phrases held out too, and families held out."""
    splits = {
        "words": Drawer(held_out, TRAIN, config.seed + 2),
        "words and phrases": Drawer(held_out, HELD_OUT, config.seed + 3),
        "training": Drawer(lexicon, TRAIN, config.seed + 4),
    }
    return {
        split: {
            family.__name__: [family(drawer) for _ in range(config.scored)]
            for family in (*FAMILIES, *HELD_OUT_FAMILIES)
        }
        for split, drawer in splits.items()
    }


def _named(accuracies: tuple[float, float, float]) -> dict[str, float]:
    right, by_state, chance = accuracies
    return {"right": round(right, 3), "by the state alone": round(by_state, 3), "chance": round(chance, 3)}


def _write(config: BindingConfig, model: WordsModel) -> None:
    model.save_pretrained(config.out)
    path = config.out / "config.json"
    saved = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**saved, TEMPLATE_KEY: "{instruction}\n{observation}"}, indent=2) + "\n", "utf-8")


def _tokenizer(config: BindingConfig) -> PreTrainedTokenizerFast:
    """Train a tokenizer of bytes on WordNet's words and explanations: it gives every text back as it was."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=config.vocabulary, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(_explanations(config.wordnet), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False)


def _explanations(folder: Path) -> Iterator[str]:
    for kind in ("noun", "adj", "verb", "adv"):
        with (folder / f"data.{kind}").open(encoding="utf-8") as file:
            yield from (line.split(" | ", 1)[1].strip() for line in file if not line.startswith(" "))


if __name__ == "__main__":
    main(tyro.cli(BindingConfig))
