"""`python -m tools.pretrain`: make `heed-tiny`, tokenizer and weights, from the environments' own language.

    python -m tools.pretrain --out policies/models/heed_tiny

writes what ships with Heed: next-token prediction on the corpus of `tools.corpus`, and a model card with the
command, the corpus's numbers and the scores on observations that were held out.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from heed.evaluation.command_line import option_words, told_command
from heed.training.errors import ConfigurationError, as_sentence, require_at_least

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

    from tools.corpus import Scene

PAD, END = "<pad>", "<eos>"
IGNORED = -100
"""The label of tokens that the loss leaves out, as in transformers."""
ALIKE = 16
"""Batches whose texts are sorted by length together, so that little is padding."""
TOKENIZED = 20_000
"""Documents that the tokenizer is trained on."""


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """Pretrain heed-tiny: collect the corpus, train the tokenizer, train the model, write a model card."""

    out: Path
    """Folder for config.json, model.safetensors, tokenizer.json and card.json."""
    steps: int = 30_000
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
        require_at_least(self, dict.fromkeys(("steps", "batch_size", "questions", "per_level", "held_out"), 1))


def pretrain(config: PretrainConfig) -> dict[str, float]:
    """Pretrain heed-tiny and write it into `config.out`.

    Returns:
        The scores: `loss` in nats per token, and `grounding`, the share of questions answered right.

    Raises:
        ConfigurationError: if there are too few observations to hold some out.
    """
    import torch
    from rich.progress import track

    from heed.agents.distributed.threads import threads_for
    from heed.policies.finite import clip_gradient
    from heed.policies.models.tiny import new_model
    from tools.corpus import MOST_PAST, UNSEEN_PAIRS, collect_scenes, documents

    began = time.monotonic()
    scenes = collect_scenes(per_level=config.per_level, seed=config.seed)
    generator = random.Random(config.seed)
    generator.shuffle(scenes)
    held_out, training = scenes[: config.held_out], scenes[config.held_out :]
    if len(training) < config.held_out:
        raise ConfigurationError(f"There are only {len(scenes)} different observations: lower --held-out.")

    stream = documents(training, questions=config.questions, generator=generator)
    tokenizer = train_tokenizer(islice(stream, TOKENIZED))
    batches = _batches(tokenizer, stream, config.batch_size)
    model = new_model(len(tokenizer), seed=config.seed, tied=True)
    torch.set_num_threads(threads_for(model, "cpu"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    model.train()
    trained_tokens = 0
    for step in track(range(config.steps), "pretraining"):
        warm, left = min(1.0, (step + 1) / 200), 1 - step / config.steps
        optimizer.param_groups[0]["lr"] = config.learning_rate * warm * max(0.02, left)
        tokens, labels = next(batches)
        trained_tokens += int((labels != -100).sum())
        loss = model(input_ids=tokens, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        clip_gradient(model, 1.0)
        optimizer.step()

    untie_actions(model, tokenizer, seed=config.seed)
    loss_held_out = held_out_loss(model, tokenizer, held_out, config)
    asked: dict[str, dict[str, Any]] = {
        "grounding": {},
        "grounding_of_things_in_sight": {"in_sight_only": True},
        "grounding_of_unseen_combinations": {"in_sight_only": True, "pairs": UNSEEN_PAIRS},
        "grounding_in_transcripts": {"past": MOST_PAST},
    }
    scores = {"loss": loss_held_out, "perplexity": math.exp(loss_held_out)} | {
        name: grounding(model, tokenizer, held_out, seed=config.seed + 1, **options) for name, options in asked.items()
    }
    model.save_pretrained(config.out)
    tokenizer.save_pretrained(config.out)
    (config.out / "generation_config.json").unlink(missing_ok=True)
    card = {
        "command": _command(config),
        "config": {name: value for name, value in asdict(config).items() if name != "out"},
        "observations": len(training),
        "held_out_observations": len(held_out),
        "trained_tokens": trained_tokens,
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

    from heed.envs.babyai.words import ACTION_TEXTS

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

    from heed.envs.babyai.words import ACTION_TEXTS

    output = model.model.embed_tokens.weight.detach().clone()
    actions = [tokenizer.encode(f" {text}")[0] for text in ACTION_TEXTS]
    output[actions] = 0.02 * torch.randn(len(actions), output.shape[1], generator=torch.Generator().manual_seed(seed))
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(output)


def held_out_loss(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, held_out: Sequence[Scene], config: PretrainConfig
) -> float:
    """Return the mean loss in nats per token over documents about held-out scenes."""
    import torch

    from tools.corpus import documents

    stream = documents(held_out, questions=config.questions, generator=random.Random(config.seed + 1))
    model.eval()
    losses, counts = [], []
    with torch.no_grad():
        for tokens, labels in islice(_batches(tokenizer, stream, config.batch_size), 32):
            counts.append(int((labels[:, 1:] != IGNORED).sum()))
            losses.append(float(model(input_ids=tokens, labels=labels).loss) * counts[-1])
    return sum(losses) / sum(counts)


def grounding(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    scenes: Sequence[Scene],
    *,
    seed: int,
    in_sight_only: bool = False,
    pairs: Sequence[str] | None = None,
    past: int = 0,
) -> float:
    """Return the share of questions, one a scene, to which the model's likeliest answer is right.

    An answer is right if it names the place of the thing that the question names, in any order of its words.

    Args:
        model: a causal language model.
        tokenizer: of the model.
        scenes: what is asked about.
        seed: of the questions.
        in_sight_only: leave out questions about what cannot be seen.
        pairs: ask only about these, by their full names; by default as the corpus does.
        past: observations that are shown before the one that is asked about.
    """
    import torch

    from tools.corpus import ABSENT, SEEN_PAIRS, ask

    generator = random.Random(seed)
    end = tokenizer.encode("\n")[0]
    right = total = 0
    model.eval()
    for scene in scenes:
        question = ask(scene.observation, generator, pairs=pairs or SEEN_PAIRS)
        if (in_sight_only and question.place == ABSENT) or (pairs and question.thing not in pairs):
            continue
        tokens = tokenizer.encode(f" {scene.transcript(past)}\n {question.text}\n")
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
    words = [word for name, value in options.items() for word in option_words(name, value)]
    return told_command("python", "-m", "tools.pretrain", *words)


def _batches(
    tokenizer: PreTrainedTokenizerFast, texts: Iterator[str], size: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield token ids and labels, (B, L) each, of `size` texts of about the same length.

    Neither padding nor what the agent did is to be foretold: their labels are `IGNORED`.
    """
    import torch

    from heed.envs.babyai.words import ACTION_TEXTS

    actions = torch.tensor([tokenizer.encode(f" {text}")[0] for text in ACTION_TEXTS])
    generator = random.Random(size)
    while True:
        rows = sorted((tokenizer.encode(text) for text in islice(texts, size * ALIKE)), key=len)
        groups = [rows[start : start + size] for start in range(0, len(rows), size)]
        generator.shuffle(groups)  # long and short batches in turn
        for group in groups:
            tokens = torch.zeros(len(group), len(group[-1]), dtype=torch.long)
            labels = torch.full_like(tokens, IGNORED)
            for index, row in enumerate(group):
                tokens[index, : len(row)] = labels[index, : len(row)] = torch.tensor(row)
            yield tokens, labels.masked_fill(torch.isin(labels, actions), IGNORED)


def main(arguments: list[str] | None = None) -> None:
    """Run `python -m tools.pretrain` with the command line's arguments."""
    with as_sentence():
        config = tyro.cli(PretrainConfig, args=arguments, prog="python -m tools.pretrain")
        for name, score in pretrain(config).items():
            print(f"{name}: {score:.4f}")
        print(f"Written to {config.out}")


if __name__ == "__main__":
    main()
