"""`heed pretrain`: make `heed-tiny`, tokenizer and weights, from the environments' own language.

    heed pretrain --out policies/heed_tiny

writes what ships with Heed: next-token prediction on the corpus of `heed.scripts.corpus`, and a model card with the
command, the corpus's numbers and the scores on observations that were held out.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from heed.scripts.errors import ConfigurationError, as_sentence

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

PAD, END = "<pad>", "<eos>"


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """Pretrain heed-tiny: collect the corpus, train the tokenizer, train the model, write a model card."""

    out: Path
    """Folder for config.json, model.safetensors, tokenizer.json and card.json."""
    steps: int = 10_000
    """Updates."""
    batch_size: int = 32
    """Documents in an update."""
    questions: int = 8
    """Questions in a document."""
    learning_rate: float = 3e-3
    """Highest learning rate; it rises over the first 200 updates and falls to a fiftieth."""
    per_level: int = 8_000
    """Different observations from each level, at the most."""
    held_out: int = 1_000
    """Observations kept out of training, for the scores."""
    seed: int = 0
    """Seed of everything random."""

    def __post_init__(self) -> None:
        """Refuse numbers that cannot be."""
        for name in ("steps", "batch_size", "questions", "per_level", "held_out"):
            if getattr(self, name) < 1:
                raise ConfigurationError(
                    f"--{name.replace('_', '-')} is {getattr(self, name)}, but must be at least 1."
                )


def pretrain(config: PretrainConfig) -> dict[str, float]:
    """Pretrain heed-tiny and write it into `config.out`.

    Returns:
        The scores: `loss` in nats per token, and `grounding`, the share of questions answered right.

    Raises:
        ConfigurationError: if there are too few observations to hold some out.
    """
    import torch
    from rich.progress import track

    from heed.policies.tiny import new_model
    from heed.scripts.corpus import collect_observations, documents

    began = time.monotonic()
    observations = collect_observations(per_level=config.per_level, seed=config.seed)
    generator = random.Random(config.seed)
    generator.shuffle(observations)
    held_out, training = observations[: config.held_out], observations[config.held_out :]
    if len(training) < config.held_out:
        raise ConfigurationError(f"There are only {len(observations)} observations: lower --held-out.")

    stream = documents(training, questions=config.questions, generator=generator)
    tokenizer = train_tokenizer(islice(stream, 20_000))
    model = new_model(len(tokenizer), seed=config.seed, tied=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    model.train()
    for step in track(range(config.steps), "pretraining"):
        warm, left = min(1.0, (step + 1) / 200), 1 - step / config.steps
        optimizer.param_groups[0]["lr"] = config.learning_rate * warm * max(0.02, left)
        tokens, labels = _batch(tokenizer, list(islice(stream, config.batch_size)))
        loss = model(input_ids=tokens, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    untie_actions(model, tokenizer, seed=config.seed)
    scores = {
        "loss": held_out_loss(model, tokenizer, held_out, config),
        "grounding": grounding(model, tokenizer, held_out, seed=config.seed + 1),
        "grounding_of_things_in_sight": grounding(model, tokenizer, held_out, seed=config.seed + 1, in_sight_only=True),
    }
    model.save_pretrained(config.out)
    tokenizer.save_pretrained(config.out)
    (config.out / "generation_config.json").unlink(missing_ok=True)
    card = {
        "command": _command(config),
        "config": {name: value for name, value in asdict(config).items() if name != "out"},
        "observations": len(training),
        "held_out_observations": len(held_out),
        "vocabulary": len(tokenizer),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "scores": {name: round(score, 4) for name, score in scores.items()},
        "seconds": round(time.monotonic() - began),
        "threads": torch.get_num_threads(),  # another number sums in another order, and ends a little elsewhere
    }
    (config.out / "card.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    return scores


def train_tokenizer(texts: Iterator[str]) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer on `texts`.

    A word goes with the space before it; a number with its unit ("2 left") is one piece, and so are the action texts.
    Any other text splits into bytes at worst.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from heed.envs.babyai import ACTION_TEXTS

    tokenizer = Tokenizer(models.BPE())
    pieces = r" ?\d+ \p{L}+| ?\p{L}+| ?\d+|\s|\p{P}|[^\s\p{L}\d\p{P}]+"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pieces), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        min_frequency=2,
        special_tokens=[PAD, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(f" {text}", normalized=False) for text in ACTION_TEXTS])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, eos_token=END)


def untie_actions(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, *, seed: int) -> None:
    """Give the model an output embedding of its own, in which the action texts are new, near zero.

    Nothing in the corpus is followed by an action, so pretraining has only taught the model how unlikely each is, and
    by chance one less than the others: it would begin by doing that one thing. So each begins equally likely.
    """
    import torch

    from heed.envs.babyai import ACTION_TEXTS

    output = model.model.embed_tokens.weight.detach().clone()
    actions = [tokenizer.encode(f" {text}")[0] for text in ACTION_TEXTS]
    output[actions] = 0.02 * torch.randn(len(actions), output.shape[1], generator=torch.Generator().manual_seed(seed))
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(output)


def held_out_loss(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, held_out: Sequence[str], config: PretrainConfig
) -> float:
    """Return the mean loss in nats per token over documents about held-out observations."""
    import torch

    from heed.scripts.corpus import documents

    stream = documents(held_out, questions=config.questions, generator=random.Random(config.seed + 1))
    model.eval()
    losses = []
    with torch.no_grad():
        for _ in range(16):
            tokens, labels = _batch(tokenizer, list(islice(stream, config.batch_size)))
            losses.append(float(model(input_ids=tokens, labels=labels).loss))
    return sum(losses) / len(losses)


def grounding(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    observations: Sequence[str],
    *,
    seed: int,
    in_sight_only: bool = False,
) -> float:
    """Return the share of questions, one an observation, to which the model's likeliest answer is right.

    An answer is right if it names the place of the thing that the question names, in any order of its words.
    """
    import torch

    from heed.scripts.corpus import ABSENT, ask

    generator = random.Random(seed)
    end = tokenizer.encode("\n")[0]
    right = total = 0
    model.eval()
    for observation in observations:
        question = ask(observation, generator)
        if in_sight_only and question.place == ABSENT:
            continue
        tokens = tokenizer.encode(f" {observation}\n {question.text}\n")
        asked = len(tokens)
        with torch.no_grad():
            while len(tokens) < asked + 5 and (not tokens[asked:] or tokens[-1] != end):
                tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
        words = str(tokenizer.decode(tokens[asked:])).split()
        right += sorted(words) == sorted(question.place.split())
        total += 1
    return right / total


def _command(config: PretrainConfig) -> str:
    """Return the command line of `config`: options that are not the default."""
    options = {
        field.name: getattr(config, field.name)
        for field in fields(config)
        if field.default != getattr(config, field.name)
    }
    return " ".join(["heed pretrain", *(f"--{name.replace('_', '-')} {value}" for name, value in options.items())])


def _batch(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids and labels, (B, L): padding has the label -100, which the loss leaves out."""
    import torch

    rows = [tokenizer.encode(text) for text in texts]
    length = max(len(row) for row in rows)
    tokens = torch.zeros(len(rows), length, dtype=torch.long)
    labels = torch.full((len(rows), length), -100)
    for index, row in enumerate(rows):
        tokens[index, : len(row)] = labels[index, : len(row)] = torch.tensor(row)
    return tokens, labels


def main(arguments: list[str] | None = None) -> None:
    """Run `heed pretrain` with the command line's arguments."""
    with as_sentence():
        config = tyro.cli(PretrainConfig, args=arguments, prog="heed pretrain")
        for name, score in pretrain(config).items():
            print(f"{name}: {score:.4f}")
        print(f"Written to {config.out}")


if __name__ == "__main__":
    main()
