"""What a training needs, part by part.

Weights and gradients are counted. What the optimizer takes, and what a gradient takes besides, is found by dry runs
(`heed.training.memory.optimizer_step`, `heed.training.memory.dry_run`) over prompts of the environment, as random
actions come by them. Left out are the environments, what the operating system keeps of files, and what a GPU's driver
and allocator take for themselves.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from inspect import signature
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from heed.agents import AGENTS
from heed.envs.arguments import require_arguments
from heed.policies.adapters.adapters import add_adapter
from heed.policies.backbones.precision import computes_in_bfloat16, decided, is_wide, weights_dtype
from heed.policies.caches.batching import Inputs, chunks_of_like_length, micro_batches
from heed.policies.caches.frozen import freeze, freeze_embeddings
from heed.policies.heads.action_head import HeadKind, head_kind
from heed.policies.heads.trie import ActionTrie, Tries
from heed.policies.modalities.modality import modalities_of
from heed.policies.model_options import ModelOptions
from heed.policies.models.language_model import LanguageModel
from heed.policies.models.loading import language_model_without_weights, options_for
from heed.policies.models.use import ENCODER_BYTES
from heed.policies.networks.choosing import reads_segments
from heed.policies.networks.prompt_network import READINGS_BYTES
from heed.policies.networks.text_network import FROZEN_BYTES, PREFIX_BYTES
from heed.policies.prompts.layout import PADDING
from heed.policies.prompts.prompt import PromptEncoder, PromptVecEnv
from heed.policies.prompts.segments import SegmentEncoder
from heed.policies.prompts.template import Template
from heed.policies.words.model import WordsModel
from heed.policies.words.vectors import WIDTH
from heed.training.agent_arguments import agent_arguments
from heed.training.errors import ConfigurationError
from heed.training.memory.dry_run import Chunk, DryRun
from heed.training.memory.optimizer_step import OptimizerStep, measure_step
from heed.training.memory.segments import SegmentDryRun
from heed.training.memory.word_counts import WordCounts
from heed.training.option_groups import LANGUAGE_AGENTS
from heed.training.options import TrainConfig
from heed.training.tracking.system import resident_memory

VALUE_HIDDEN = 64
"""Width of the value network's hidden layer, as `LanguageActorCriticPolicy` has it."""

SAMPLE_STEPS, SAMPLE_SECONDS = 512, 2.0
"""So long random actions are played to see prompts: no more steps, and no more seconds."""

Place = Literal["device", "host"]


@dataclass(frozen=True, kw_only=True)
class Part:
    """Something that takes memory."""

    name: str
    size: int
    """Bytes."""
    place: Place
    """Where the language model runs, or main memory; on a CPU these are one."""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a training needs."""

    device: torch.device
    trainable: bool
    """Whether the language model has weights that could train."""
    parts: tuple[Part, ...]
    prompt_tokens: int
    """Of the longest prompt that is assumed."""
    minibatch: tuple[int, int]
    """Different prompts of a minibatch, and their tokens (of heed-words, words) with padding."""
    part_tokens: int
    """Of these, those of the largest micro-batch."""
    unit: Literal["tokens", "words"] = "tokens"
    """What is counted of a minibatch."""

    def total(self, place: Place | None = None) -> int:
        """Return the bytes of all parts, or of those at one place; on a CPU there is one place."""
        if self.device.type != "cuda":
            place = None
        return sum(part.size for part in self.parts if place in (None, part.place))

    @property
    def new(self) -> int:
        """Bytes that are to be had on the device, beyond what the process has already."""
        return self.total("device") - sum(part.size for part in self.parts if part.name == PROCESS and self._is_one)

    @property
    def _is_one(self) -> bool:
        return self.device.type != "cuda"

    def as_json(self) -> dict[str, Any]:
        """Return the estimate as JSON, sizes in bytes."""
        return {
            "device": str(self.device),
            "total": self.total("device"),
            "parts": [dataclasses.asdict(part) for part in self.parts],
            "prompt_tokens": self.prompt_tokens,
            "minibatch_prompts": self.minibatch[0],
            "minibatch_tokens": self.minibatch[1],
            "tokens_at_once": self.part_tokens,
        }


PROCESS = "the process itself"
"""The name of the part that is there before anything is made."""


def estimate_memory(config: TrainConfig, *, prompt_tokens: int | None = None) -> Estimate:
    """Return what a training with these options needs. No weights are loaded.

    Args:
        config: of a training with a language model.
        prompt_tokens: assume distinct prompts of exactly this length, instead of those of the environment.

    Raises:
        ConfigurationError: if the agent has no language model, or options do not go together.
        LanguageModelError: if there is no such model.
        Exception: whatever the environment raises.
    """
    if config.agent not in LANGUAGE_AGENTS:
        raise ConfigurationError(f"{config.agent} has a table and no language model, whose memory could be estimated.")
    config = config.resolved()
    require_arguments(config.env, config.env_arguments)
    process = resident_memory() or 0
    arguments = _Arguments(config)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with mode:
        trained = language_model_without_weights(config.model, dtype=weights_dtype(config.weights))
    options = options_for(trained, ModelOptions.among(arguments.policy))
    config = dataclasses.replace(config, train_layers=options.train_layers)
    as_it_came = _bytes(trained.model.parameters())
    segments = reads_segments(trained, options, config.segments)
    seen = _prompts_of(config, trained, arguments.policy.get("template"), prompt_tokens, segments=segments)
    # Nobody else has this model: it need not be copied, as `LanguageModel.for_training` would. The few weights of an
    # adapter are real: peft moves them to a device, which tensors without numbers do not take.
    adapter = arguments.policy["adapter"]
    if adapter is not None:
        add_adapter(trained.model, adapter, layers=config.train_layers)
        trained.adapter = adapter
    else:
        with mode:
            freeze(trained.model, config.train_layers)
            if config.freeze_embeddings:
                freeze_embeddings(trained.model)
    device = torch.device(config.device if config.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu")
    in_bfloat16 = computes_in_bfloat16(
        device, decided(trained.model, config.precision, device), wide=is_wide(trained.model)
    )
    common: dict[str, Any] = {
        "mode": mode,
        "language_model": trained,
        "words": seen.words,
        "tries": seen.tries if head_kind(config.head).reads_texts else None,
        "normalization": config.normalization,
        "train_layers": config.train_layers,
        "in_bfloat16": config.weights == "bfloat16" or in_bfloat16,
        "activation_checkpointing": config.activation_checkpointing,
    }
    if seen.segments is None:
        dry_run = DryRun(**common)
    else:
        assert config.n_envs is not None
        new = min(seen.segments.different, config.n_envs * seen.segments.most), seen.segments.longest
        dry_run = SegmentDryRun(
            **common, segments=seen.segments.most, different=seen.segments.different, new_segments=new
        )
    return _Sum(config, arguments, as_it_came, trained, seen, dry_run, device, process).estimate()


class _Arguments:
    """The agent's arguments, its own defaults included."""

    def __init__(self, config: TrainConfig):
        self._given = agent_arguments(config)
        self._defaults = signature(AGENTS[config.agent]).parameters
        self.policy: dict[str, Any] = self._given["policy_kwargs"]

    def __getitem__(self, name: str) -> Any:
        return self._given.get(name, self._defaults[name].default if name in self._defaults else None)


@dataclass(frozen=True, kw_only=True)
class _Segments:
    """What an encoder that reads segments sees of an environment."""

    most: int
    """Of a prompt, the instruction included."""
    different: int
    longest: int
    """Tokens of the longest."""

    @classmethod
    def of(cls, encoder: SegmentEncoder, prompts: torch.Tensor, prompt_tokens: int | None) -> _Segments:
        """Find those of prompts, (N, L), or of one with `prompt_tokens` whose segments are as long as theirs."""
        split = [encoder.split(row[row != PADDING]) for row in prompts.numpy()]
        lengths = [len(segment) for segments in split for segment in segments]
        most = max(map(len, split))
        if prompt_tokens is not None:
            most = max(1, round(prompt_tokens / (1 + sum(lengths) / len(lengths))))
        different = len({segment.tobytes() for segments in split for segment in segments})
        return cls(most=most, different=max(different, most), longest=max(1, *lengths))


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """What was seen of an environment."""

    prompts: torch.Tensor
    """Token ids of prompts as they came, (N, L), padded with -1."""
    all_differ: bool
    """Assume that no two prompts are equal."""
    words: WordCounts | None
    """Of a model that reads words."""
    tries: Tries
    n_actions: int
    action_space: spaces.Space[Any]
    encoder: PromptEncoder
    segments: _Segments | None
    """None where prompts are read whole."""

    @property
    def longest(self) -> int:
        """Return how long the longest prompt is, in tokens."""
        return int((self.prompts != PADDING).sum(dim=1).max())

    @property
    def mean_length(self) -> float:
        """Return how long prompts are, in tokens."""
        return float((self.prompts != PADDING).sum(dim=1).float().mean())

    def draw(self, count: int) -> _Lengths:
        """Return the lengths of the different prompts among `count`, drawn from those that were seen."""
        if self.all_differ:
            places = np.resize(np.arange(len(self.prompts)), count)
            tokens = (self.prompts != PADDING).sum(dim=1).numpy()[places]
        else:
            rows = np.random.default_rng(0).permutation(len(self.prompts))[:count]
            found = Inputs.of(self.prompts[torch.from_numpy(rows)])
            # Of more than were seen, as many are different as were among those.
            different = max(1, len(found.lengths) * count // len(rows))
            tokens, places = np.resize(found.lengths, different), np.resize(rows[found.rows], different)
        soft = self.encoder.layout.soft_tokens
        return _Lengths(tokens, tokens + soft if self.words is None else self.words.prompts[places])

    def parts(self, count: int, *, scores: bool, most: int | None = None) -> list[list[Chunk]]:
        """Return the chunks in which the different prompts among `count` are read, part by part.

        Args:
            count: of prompts.
            scores: whether actions are scored, which makes prompts longer.
            most: tokens that a part may have.
        """
        lengths = self.draw(count)
        tokens = lengths.tokens + self.encoder.layout.soft_tokens
        prompts = torch.full((len(tokens), int(tokens.max())), PADDING)
        for row, length in enumerate(tokens.tolist()):
            prompts[row, :length] = 0
            prompts[row, 0] = row + 1  # no two are alike
        parts = [torch.arange(len(prompts))] if most is None else micro_batches(Inputs.of(prompts), most)
        behind = 0 if not scores else self.tries.n_nodes if self.words is None else self.words.listed
        found = []
        for rows in parts:
            read = np.sort(lengths.read[rows.numpy()])
            chunks = chunks_of_like_length(read + behind, torch.device("cpu"))
            found.append([(chunk.stop - chunk.start, int(read[chunk].max())) for chunk in chunks])
        return found


class _Lengths(NamedTuple):
    """How long different prompts are, (U,) each."""

    tokens: npt.NDArray[np.int64]
    """In tokens."""
    read: npt.NDArray[np.int64]
    """As the language model reads them: in words, or in tokens, soft ones included."""


def _prompts_of(
    config: TrainConfig,
    language_model: LanguageModel,
    template: Template | None,
    prompt_tokens: int | None,
    *,
    segments: bool,
) -> _Seen:
    """Play random actions, and return the prompts that come up."""
    from heed.envs.make import make
    from heed.training.wrappers import wrapping

    assert config.max_prompt_tokens is not None
    n_envs = 1  # making one may take seconds
    venv = make(
        config.env,
        n_envs=n_envs,
        seed=config.seed,
        step_timeout=config.step_timeout,
        reset_timeout=config.reset_timeout,
        max_lost=config.max_lost,
        hold_out=config.hold_out,
        history=config.history,
        **wrapping(config),
        **config.env_arguments,
    )
    try:
        observations: Any = venv.observation_space
        modalities = modalities_of(observations, venv.action_space, words_only=config.words_only)
        encoder = language_model.encoder(
            template=template, max_tokens=config.max_prompt_tokens, modalities=modalities, segments=segments
        )
        env = PromptVecEnv(venv, encoder)
        rows: list[Any] = [env.reset()]
        space: Any = env.action_space
        space.seed(config.seed)
        deadline = time.monotonic() + SAMPLE_SECONDS
        changing = encoder.layout.choices > 0
        for _ in range(0 if prompt_tokens is not None else SAMPLE_STEPS):
            if time.monotonic() > deadline:
                break
            # The first is always there, where actions change.
            actions = (
                np.zeros(n_envs, dtype=np.int64) if changing else np.array([space.sample() for _ in range(n_envs)])
            )
            rows.append(env.step(actions)[0])
        tokens = torch.from_numpy(encoder.layout.tokens_of(np.concatenate(rows)).astype(np.int64))
        texts = getattr(space, "texts", None) or encoder.action_texts.texts or ("act",)
        n_actions = int(space.n) if isinstance(space, spaces.Discrete) else int(np.prod(space.shape or (1,)))
    finally:
        venv.close()
    found = _Segments.of(encoder, tokens, prompt_tokens) if isinstance(encoder, SegmentEncoder) else None
    trie, words = ActionTrie.build([[0]]), None
    reads_texts = head_kind(config.head).reads_texts
    if isinstance(language_model.model, WordsModel):
        seen = [encoder.decode(row[row != PADDING].numpy()) for row in tokens]
        listed = 0 if not reads_texts else encoder.layout.choices or len(texts)
        words = WordCounts.of(seen, texts if listed else (), listed)
        if prompt_tokens is not None:
            words = words.scaled(prompt_tokens / int((tokens[0] != PADDING).sum()))
    elif reads_texts:
        trie = language_model.action_trie(tuple(texts)[: max(1, n_actions)], config.normalization, distinct=False)
    if prompt_tokens is not None:
        tokens = torch.zeros(1, prompt_tokens, dtype=torch.long)
    return _Seen(
        prompts=tokens,
        all_differ=prompt_tokens is not None,
        words=words,
        tries=Tries([trie]),
        n_actions=n_actions,
        action_space=space,
        encoder=encoder,
        segments=found,
    )


def _tokens(chunks: list[Chunk]) -> int:
    return sum(count * length for count, length in chunks)


@dataclass(frozen=True)
class _Sum:
    """Adds up what a training needs."""

    config: TrainConfig
    arguments: _Arguments
    as_it_came: int
    """Bytes of the language model before it was changed to be trained."""
    trained: LanguageModel
    seen: _Seen
    dry_run: DryRun
    device: torch.device
    process: int

    def estimate(self) -> Estimate:
        """Return the estimate."""
        gradient, minibatch, at_once = self._gradient()
        trains = self._trains() + self._heads()
        step, told = self._optimizer(trains)
        unit: Literal["tokens", "words"] = "tokens" if self.seen.words is None else "words"
        parts = [
            Part(name="language model", size=self._weights(), place="device", note=self._model_note()),
            *self._network(),
            Part(name="heads", size=self._heads(), place="device"),
            *self._copies(),
            Part(name="gradient", size=trains, place="device", note="of what trains"),
            Part(name="optimizer", size=step.state, place="device", note=told),
            Part(
                name="activations",
                size=max(gradient - self._trains(), step.temporary, self._reading()),
                place="device",
                note=f"what is kept for the gradient of {at_once} {unit} at once, of {minibatch[1]} in a minibatch",
            ),
            *self._caches(),
            self._buffer(),
            Part(name=PROCESS, size=self.process, place="host", note="Python, PyTorch and libraries"),
        ]
        return Estimate(
            device=self.device,
            trainable=self.trained.backbone.trains,
            parts=tuple(part for part in parts if part.size),
            prompt_tokens=self.seen.longest,
            minibatch=minibatch,
            part_tokens=at_once,
            unit=unit,
        )

    # -- weights -------------------------------------------------------------------------------------------

    def _weights(self) -> int:
        return _bytes(self.trained.model.parameters())

    def _trains(self) -> int:
        return _bytes(self.dry_run.trained())

    def _model_note(self) -> str:
        count = sum(weight.numel() for weight in self.trained.model.parameters())
        learning = 0 if self.config.train_layers == 0 else sum(weight.numel() for weight in self.dry_run.trained())
        return f"{count / 1e6:,.1f} M weights, of which {learning / 1e6:,.1f} M train"

    def _network(self) -> list[Part]:
        """Return what an encoder that reads segments has besides itself."""
        if self.seen.segments is None:
            return []
        note = "what learns on the vectors of segments"
        parts = [Part(name="network on segments", size=self._trains(), place="device", note=note)]
        if not self.trained.backbone.trains:
            parts.append(Part(name="sentence encoder", size=ENCODER_BYTES, place="host", note="computed by NumPy"))
        return parts

    def _heads(self) -> int:
        return _bytes(self._head_weights())

    def _head_weights(self) -> list[nn.Parameter]:
        width, kind = self.dry_run.features_dim, self.head
        with torch.random.fork_rng(devices=[]):
            if self.config.algorithm.replay_buffer:
                assert kind.values is not None  # which the training refuses otherwise
                head: nn.Module = kind.values(n_actions=self.seen.n_actions, width=width, dueling=self.config.dueling)
                value = [nn.Linear(width, 1)] if self.config.dueling else []
            else:
                head = kind.actor(action_space=self.seen.action_space, width=width)
                hidden = int(self.arguments.policy.get("value_hidden", VALUE_HIDDEN))
                value = [nn.Linear(width, hidden), nn.Linear(hidden, 1)]
        return [weight for module in (head, *value) for weight in module.parameters()]

    @property
    def head(self) -> HeadKind:
        """How actions come out of the language model."""
        return head_kind(self.config.head)

    @property
    def _has_reference(self) -> bool:
        return bool(self.arguments["reference_coef"])

    def _copies(self) -> list[Part]:
        """Return what else there is of weights, besides those of the policy."""
        size, note = self._trains() + self._heads(), "what trains, a second time"
        parts = []
        if self.config.algorithm.networks > 1:
            parts.append(Part(name="target network", size=size, place="device", note=note))
        if self._has_reference:
            parts.append(Part(name="reference policy", size=size, place="device", note=note))
        if self.device.type == "cuda":  # elsewhere the policy has it as it came
            parts.append(
                Part(name="model as it came", size=self.as_it_came, place="host", note="until it is on the device")
            )
        return parts

    def _optimizer(self, trains: int) -> tuple[OptimizerStep, str]:
        """Return what the optimizer allocates, and a note on it."""
        kind = self.arguments.policy.get("optimizer_class", torch.optim.Adam)
        settings = self.arguments.policy.get("optimizer_kwargs") or {}
        weights = [*self.dry_run.trained(), *self._head_weights()]
        try:
            step = measure_step(weights, kind, settings, device=self.device)
        except Exception as error:  # somebody else's optimizer
            told = (
                f"{kind.__name__} cannot be measured ({type(error).__name__}): two numbers for each that trains assumed"
            )
            return OptimizerStep(state=2 * trains, temporary=trains), told
        return step, f"{kind.__name__}: {step.state / trains:.1f} times what trains"

    # -- what is computed ----------------------------------------------------------------------------------

    def _rows(self) -> int:
        """Return how many prompts a minibatch has."""
        config = self.config
        assert config.n_envs is not None
        if not config.algorithm.minibatches:
            return config.n_envs * int(self.arguments["n_steps"])
        if config.batch_tokens is not None:
            return max(1, config.batch_tokens // max(1, round(self.seen.mean_length)))
        return int(self.arguments["batch_size"])

    def _gradient(self) -> tuple[int, tuple[int, int], int]:
        """Return the peak of a gradient in bytes, the minibatch's different prompts and tokens, and those at once."""
        parts = self.seen.parts(self._rows(), scores=self.head.reads_texts, most=self.config.micro_batch_tokens)
        largest = max(parts, key=_tokens)
        reference = largest if self._has_reference else []
        peak = self.dry_run.gradient(largest, reference=reference, onto=len(parts) > 1)
        prompts = sum(count for part in parts for count, _ in part)
        return peak, (prompts, sum(map(_tokens, parts))), _tokens(largest)

    def _reading(self) -> int:
        """Return the bytes at the peak of reading where nothing is learned: in a rollout, or of a target network."""
        assert self.config.n_envs is not None
        count = max(self.config.n_envs, self._rows() if self.config.algorithm.networks > 1 else 0)
        (chunks,) = self.seen.parts(count, scores=self.head.reads_texts)
        return self.dry_run.reading([max(chunks, key=lambda chunk: chunk[0] * chunk[1])])

    # -- what is kept --------------------------------------------------------------------------------------

    def _steps(self) -> int:
        """Return how many environment steps a rollout has; with a replay buffer, those that are read at once."""
        assert self.config.n_envs is not None
        return self.config.n_envs * (1 if self.config.algorithm.replay_buffer else int(self.arguments["n_steps"]))

    def _caches(self) -> list[Part]:
        """Return what the network caches (`heed.policies.networks.text_network`)."""
        text_config = self.trained.model.config.get_text_config()
        if self.seen.segments is not None:
            kept = max(1024, 2 * self.seen.segments.different) * 4 * self.trained.backbone.width
            note = "vectors of segments that come again"
            return [Part(name="readings", size=min(READINGS_BYTES, kept), place="device", note=note)]
        scores = self.seen.tries.n_actions if self.seen.words is None else self.seen.words.listed
        width = text_config.hidden_size + (scores if self.head.reads_texts else 0)
        networks = 2 if self._has_reference else 1
        lengths = self.seen.draw(self._steps()).tokens
        kept = max(1024, 2 * len(lengths))
        readings = networks * min(READINGS_BYTES // 2, kept * width * 4)
        parts = [Part(name="readings", size=readings, place="device", note="of prompts that come again")]
        if self.seen.words is not None:
            vectors = int(self.seen.words.different[-1]) * WIDTH * 4
            parts.append(
                Part(name="words", size=ENCODER_BYTES + vectors, place="host", note="sentence encoder, and vectors")
            )
        frozen = self.dry_run.frozen_layers
        if frozen:  # they never change, so all that is ever read is kept
            assert self.config.steps is not None
            tokens = int(self.seen.draw(max(1, self.config.steps)).tokens.sum())  # of 0 steps, there are demonstrations
            states = min(FROZEN_BYTES, 2 * tokens * text_config.hidden_size * self.trained.model.dtype.itemsize)
            copies = self.config.algorithm.networks
            note = "of all prompts, up to 1 GiB for a network"
            parts.append(Part(name="states of frozen layers", size=copies * states, place="device", note=note))
        if (self.config.history or frozen) and self.trained.backbone.keeps_prefixes:
            assert self.config.n_envs is not None
            heads = getattr(text_config, "num_key_value_heads", None) or text_config.num_attention_heads
            head = getattr(text_config, "head_dim", None) or text_config.hidden_size // text_config.num_attention_heads
            each = 2 * (frozen or text_config.num_hidden_layers) * heads * head * self.trained.model.dtype.itemsize
            keys = min(PREFIX_BYTES, 2 * self.config.n_envs * -(-self.seen.longest // 64) * 64 * each)
            parts.append(Part(name="keys and values", size=keys, place="device", note="of what prompts begin with"))
        return parts

    def _buffer(self) -> Part:
        """Return the rollout or replay buffer."""
        row = self.seen.encoder.layout.width * np.dtype(self.seen.encoder.integer).itemsize
        if self.config.algorithm.replay_buffer:
            return Part(name="replay buffer", size=int(self.arguments["buffer_size"]) * (2 * row + 16), place="host")
        # Minibatches are drawn from a copy that is flattened.
        return Part(name="rollout", size=2 * self._steps() * (row + 7 * 4), place="host")


def _bytes(weights: Any) -> int:
    return sum(weight.numel() * weight.dtype.itemsize for weight in weights)
