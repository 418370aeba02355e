"""What Heed's agents share beyond SB3's algorithms: environments that speak, and checkpoints without pickle."""

from __future__ import annotations

import contextlib
import inspect
import io
import math
import tempfile
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.type_aliases import MaybeCallback
from stable_baselines3.common.utils import get_device, set_random_seed
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_wrapper
from torch import Tensor

from heed.agents.as_json import (
    argument_from_json,
    argument_to_json,
    flatten_optimizer,
    read_optimizer,
    space_from_json,
    space_to_json,
)
from heed.agents.base_weights import describe_base, load_base, put_back, weights_to_save
from heed.agents.checkpoint import (
    CheckpointError,
    read_json,
    read_tensors,
    tensor_names,
    verify_checkpoint,
    write_checkpoint,
    write_json,
    write_tensors,
)
from heed.agents.exploration import IntrinsicRewardVecEnv
from heed.agents.learners import ALONE, Learners, current
from heed.agents.random_state import get_random_state, set_random_state
from heed.agents.scaled_rewards import ScaledRewardsVecEnv
from heed.agents.shared import HEADS, heads_of, home_of, set_heads, shared_name
from heed.agents.together import EpisodesOfAll, counting_together
from heed.agents.untrusted import as_checkpoint_error, check_agent, check_language_model, limited_parameters
from heed.policies.action_texts import ActionTexts
from heed.policies.actor_critic import LanguageActorCriticPolicy
from heed.policies.language_model import TINY, LanguageModel, LanguageModelError
from heed.policies.layout import NOTHING, Beside, PromptLayout
from heed.policies.loading import load_language_model, read_shared_language_model, rebuild_language_model
from heed.policies.networks import reads_segments
from heed.policies.parameter_groups import FACTOR
from heed.policies.precision import weights_dtype
from heed.policies.prompt import PromptSpace, PromptVecEnv
from heed.policies.prompt_network import PromptNetwork
from heed.policies.q_network import LanguageQPolicy
from heed.policies.rank_budget import RankBudget
from heed.policies.segments import SegmentEncoder
from heed.policies.template import PromptTemplate

LANGUAGE_POLICY = "LanguagePolicy"
"""The name under which every agent knows its language policy."""

MAX_PROMPT_TOKENS = 256
"""How long prompts may be unless `policy_kwargs["max_prompt_tokens"]` says otherwise."""

WEIGHTS = "policy.safetensors"
"""The file of a checkpoint that holds the policy's weights."""

OWN = "own.json"
"""The file of a learner's folder in a checkpoint that holds what `agent.json` holds of the first one."""

_COUNTERS = (
    "num_timesteps",
    "_total_timesteps",
    "_num_timesteps_at_start",
    "_episode_num",
    "_n_updates",
    "_current_progress_remaining",
)
_NOT_SAVED = ("self", "policy", "env", "policy_kwargs", "_init_setup_model", "device", "verbose", "tensorboard_log")

Self = TypeVar("Self", bound="LanguageAgent")


class LanguageAgent(BaseAlgorithm):
    """Mixin before an SB3 algorithm.

    - `env` is a language `VecEnv` (from `heed.envs.make`); it is wrapped so that the policy sees prompts.
      `policy_kwargs` takes `max_prompt_tokens`, `template` (`heed.policies.template`), `words_only` (leave out the
      numbers and the picture that the observations have beside their words), `quantize` (load the language model
      with weights of `8bit` or `4bit`) and `segments` (let a frozen encoder read instruction and parts of the
      observation one by one; it does wherever it can) besides the policy's own arguments.
    - `save` and `load` use folders of JSON and safetensors, never pickle.
    - Within `heed.agents.learners.join`, several processes train it together, each with its share of the environments.
      `env` is that share, and other sizes (steps, minibatches, buffers, intervals) are those of all together.
    """

    learners: Learners = ALONE
    """The processes that train it together."""
    _arguments: dict[str, Any]
    _not_yet_logged: dict[str, Any]
    _counters: ClassVar[tuple[str, ...]] = _COUNTERS

    def _remember_arguments(self, arguments: dict[str, Any]) -> None:
        """Keep the constructor's arguments, for checkpoints."""
        self._not_yet_logged = {}
        self.learners = current()
        self.episodes_of_all = EpisodesOfAll(self.learners)
        self._arguments = {k: v for k, v in arguments.items() if k not in _NOT_SAVED and not k.startswith("__")}

    def _setup_model(self) -> None:
        super()._setup_model()  # type: ignore[safe-super]  # the algorithm's, behind this mixin
        if self.learners.several:
            self._begin_together()

    def _begin_together(self) -> None:
        """Let all learners begin with the same weights, each with environments and random numbers of its own.

        Raises:
            ValueError: if the environments are not shares of a larger vector, or what they remember cannot be shared.
        """
        learners = self.learners
        if self.env is not None:
            shares = learners.gather((self.env.num_envs, getattr(self.env.unwrapped, "first_index", None)))
            sizes = [size for size, _ in shares]
            if len(set(sizes)) > 1:
                raise ValueError(f"Each process must have as many environments as any other, but they have {sizes}.")
            if any(first not in (None, rank * sizes[0]) for rank, (_, first) in enumerate(shares)):
                raise ValueError(
                    "The processes would play the same episodes: make the environments of each with "
                    f"heed.envs.make(..., n_envs={sizes[0]}, first_index=learners.rank * {sizes[0]})."
                )
            if unwrap_vec_wrapper(self.env, IntrinsicRewardVecEnv) is not None:
                raise ValueError(
                    "Rewards for what is new cannot be had in several processes: each would know only what it has seen "
                    "itself. Train in one process, or without them."
                )
        learners.make_alike(self._weights())
        own_seed = learners.seed(self.seed)
        if not learners.is_first and own_seed is not None:
            # Minibatches and actions are drawn anew in each learner; the weights were drawn alike.
            set_random_seed(own_seed, using_cuda=self.device.type == "cuda")
            self.action_space.seed(own_seed)

    def _weights(self) -> Iterator[Tensor]:
        """Yield all tensors of the policy, which are the same in all learners."""
        yield from self.policy.parameters()
        yield from self.policy.buffers()

    def _setup_learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        reset_num_timesteps: bool = True,
        tb_log_name: str = "run",
        progress_bar: bool = False,
    ) -> tuple[int, BaseCallback]:
        if self.learners.several:
            callback = counting_together(callback)
            if not self.learners.is_first:
                progress_bar = False
                if not self._custom_logger:
                    self.set_logger(Logger(folder=None, output_formats=[]))
        return super()._setup_learn(total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar)

    @staticmethod
    def prepare(env: Any, policy_kwargs: dict[str, Any] | None) -> tuple[Any, dict[str, Any]]:
        """Wrap `env` so that it gives prompts, and load the language model that makes them.

        Returns:
            The environment, and the policy's keyword arguments with the language model in them.
        """
        policy_kwargs = dict(policy_kwargs or {})
        max_tokens = policy_kwargs.pop("max_prompt_tokens", MAX_PROMPT_TOKENS)
        template = policy_kwargs.pop("template", None)
        words_only = policy_kwargs.pop("words_only", False)
        quantize = policy_kwargs.pop("quantize", None)
        segments = policy_kwargs.pop("segments", None)
        if env is None:
            return None, policy_kwargs
        model = policy_kwargs.get("model", TINY)
        if isinstance(model, LanguageModel) and quantize not in (None, model.quantized):
            raise ValueError(
                "This language model is loaded already: load_language_model(name, quantize=...) quantizes it."
            )
        if isinstance(model, LanguageModel):
            language_model = model
        else:
            dtype = weights_dtype(policy_kwargs.get("weights", "float32"))
            language_model = load_language_model(model, dtype=dtype, quantize=quantize)
        policy_kwargs["model"] = language_model
        if isinstance(env.observation_space, PromptSpace):
            return env, policy_kwargs
        if not isinstance(env, VecEnv):
            raise TypeError(
                f"{type(env).__name__} is not a VecEnv: make the environment with `heed.envs.make(id, n_envs=...)`, "
                "or put a language environment of your own into `heed.envs.LanguageVecEnv([lambda: env])`."
            )
        if not isinstance(env.observation_space, spaces.Dict):
            return PromptVecEnv(env, language_model.encoder()), policy_kwargs  # which says what is wrong with it
        beside = Beside.of(env.observation_space, env.action_space, words_only=words_only)
        segments = reads_segments(language_model, policy_kwargs, segments)
        encoder = language_model.encoder(template=template, max_tokens=max_tokens, beside=beside, segments=segments)
        return PromptVecEnv(env, encoder), policy_kwargs

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """The constructor's arguments as JSON, defaults included.

        Raises:
            TypeError: if one cannot be written as JSON (a learning-rate function, say).
        """
        return {name: argument_to_json(name, value) for name, value in self._arguments.items()}

    @property
    def language_policy(self) -> LanguageActorCriticPolicy | LanguageQPolicy:
        """The policy, as what it is here."""
        assert isinstance(self.policy, LanguageActorCriticPolicy | LanguageQPolicy)
        return self.policy

    @property
    def rank_budget(self) -> RankBudget | None:
        """What shares the ranks of an AdaLoRA adapter, if the policy has one."""
        network = getattr(getattr(self.policy, "q_net", self.policy), "network", None)
        return network.rank_budget if isinstance(network, PromptNetwork) else None

    def _share_ranks(self) -> None:
        """Let an AdaLoRA adapter lose the ranks that matter least; behind a step of the optimizer."""
        if self.rank_budget is not None:
            self.rank_budget.share(1 - self._current_progress_remaining)

    @property
    def _layout(self) -> PromptLayout:
        """What stands where in what the policy reads; of what are no prompts, all that they hold."""
        space = self.observation_space
        return space.encoder.layout if isinstance(space, PromptSpace) else PromptLayout(math.prod(space.shape or ()))

    # -- words ---------------------------------------------------------------------------------------------

    def action_probabilities(self, observations: Any) -> npt.NDArray[np.floating[Any]]:
        """Return the probability of every action, (B, A), for a batch of prompts or language observations.

        Raises:
            TypeError: if the actions are not Discrete.
        """
        if not isinstance(self.action_space, spaces.Discrete):
            raise TypeError(f"Actions of {self.action_space} have no list of probabilities.")
        self.policy.set_training_mode(False)
        prompts, _ = self.policy.obs_to_tensor(observations)
        with torch.no_grad():
            return self._probabilities(prompts).cpu().numpy()

    @abstractmethod
    def _probabilities(self, prompts: Any) -> Tensor:
        """Return the probability of every action, (B, A), for prompts (B, L)."""

    def action_preferences(self, observations: Any) -> npt.NDArray[np.floating[Any]]:
        """Return the numbers, (B, A), of which the agent's greedy action has the largest; arguments as above.

        Raises:
            TypeError: if the actions are not Discrete.
        """
        return self.action_probabilities(observations)

    def forget_readings(self) -> None:
        """Forget what the language model has read: prompts are read again, and rounded by those read beside them."""
        for policy in self._policies():
            for module in policy.modules():
                if isinstance(module, PromptNetwork):
                    module.forget()

    # -- checkpoints ---------------------------------------------------------------------------------------

    def save(self, path: Any, exclude: Any = None, include: Any = None) -> None:
        """Save the agent into the folder `path`: weights, optimizer, counters, random states, environments.

        Where several learners train it all of them call this, and the first one writes what all of them need.

        An older checkpoint of that name is replaced. `exclude` and `include` are of SB3's pickled format and must be
        left out.

        Raises:
            FileExistsError: if something else stands at `path`.
            TypeError: if an argument of the agent cannot be written as JSON.
            LearnersError: if the learners have not the same weights any more.
        """
        if exclude is not None or include is not None:
            raise TypeError("save() takes no `exclude` or `include`: a checkpoint holds what resuming needs.")
        if isinstance(path, io.BufferedIOBase):
            raise TypeError("A checkpoint is a folder: give a path, not an open file.")
        self.learners.require_alike(self._weights())
        own_files = self.learners.to_first({} if self.learners.is_first else self._own_files())

        def fill(folder: Path) -> None:
            self._write(folder)
            for rank, files in enumerate(own_files[1:], start=1):
                place = folder / _folder_of(rank)
                place.mkdir()
                for name, content in files.items():
                    (place / name).write_bytes(content)

        self.learners.first(lambda: write_checkpoint(Path(path), fill))
        # What was computed in earlier batches differs, in the last bit, from what a resumed training computes.
        self.forget_readings()

    def _update_info_buffer(self, infos: list[dict[str, Any]], dones: npt.NDArray[Any] | None = None) -> None:
        """Log how many episodes the environments have lost, once one is."""
        if self.learners.several:
            self.episodes_of_all.note(infos, dones)  # `take_in_episodes` follows
            return
        super()._update_info_buffer(infos, dones)
        self._log_lost(self._lost_here)

    @property
    def _lost_here(self) -> int:
        return 0 if self.env is None else getattr(self.env.unwrapped, "lost_count", 0)

    def _log_lost(self, lost: int) -> None:
        if lost:
            self.logger.record("rollout/lost_episodes", lost)

    def take_in_episodes(self) -> None:
        """Take the episodes of all learners since the last rollout into the statistics; called by all."""
        infos, dones = self.episodes_of_all.exchange(self._lost_here)
        super()._update_info_buffer(infos, dones)
        self._log_lost(self.episodes_of_all.lost)

    def _update_learning_rate(self, optimizers: list[torch.optim.Optimizer] | torch.optim.Optimizer) -> None:
        """Set the learning rate of the time, for each part of the policy its own."""
        super()._update_learning_rate(optimizers)
        for optimizer in optimizers if isinstance(optimizers, list) else [optimizers]:
            for group in optimizer.param_groups:
                group["lr"] *= group.get(FACTOR, 1.0)

    def _policies(self) -> list[torch.nn.Module]:
        """Return the policy, and what other policies the agent keeps."""
        return [self.policy]

    def set_logger(self, logger: Logger) -> None:
        """Log into `logger`; what a loaded agent had measured but not yet logged goes there too."""
        super().set_logger(logger)
        for name, (value, excluded) in self._not_yet_logged.items():
            logger.record(name, value, exclude=tuple(excluded))

    def _pending_log(self) -> dict[str, Any]:
        """Return what the logger holds for its next line."""
        if not hasattr(self, "_logger"):
            return {}
        return {
            name: (float(value), list(self.logger.name_to_excluded[name]))
            for name, value in self.logger.name_to_value.items()
            if np.isscalar(value) and not isinstance(value, str) and np.isfinite(value)
        }

    def save_replay_buffer(self, path: Any) -> None:
        """Refuse SB3's pickled format; `save` keeps the replay buffer with the agent."""
        raise TypeError("save_replay_buffer() writes a pickle: use save(), which keeps the replay buffer as well.")

    def load_replay_buffer(self, path: Any, truncate_last_traj: bool = True) -> None:
        """Refuse SB3's pickled format, which can run code."""
        raise TypeError("load_replay_buffer() reads a pickle: use load(), which brings the replay buffer back as well.")

    def _write(self, folder: Path) -> None:
        described = {**self._described(), **self._write_policy(folder)}
        write_json(
            folder / "agent.json",
            {
                **described,
                **({"learners": self.learners.count} if self.learners.several else {}),
                "episodes": [list(self.ep_info_buffer or []), [float(s) for s in self.ep_success_buffer or []]],
                **self._write_own(folder),
                "log": self._pending_log(),
            },
        )

    def _write_own(self, folder: Path) -> dict[str, Any]:
        """Write what each of several learners has of its own; return what JSON is to hold of it."""
        for name, wrapper in _reward_wrappers(self.env):
            write_tensors(folder / name, wrapper.get_tensors())
        random_numbers, random_tensors = get_random_state(self.action_space)
        write_tensors(folder / "random.safetensors", random_tensors)
        return {
            "episode_starts": None if self._last_episode_starts is None else self._last_episode_starts.tolist(),
            "random": random_numbers,
            "envs": self.get_env_state(),
        }

    def _own_files(self) -> dict[str, bytes]:
        """Return the same as files, for the first learner to write."""
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            write_json(folder / OWN, self._write_own(folder))
            return {path.name: path.read_bytes() for path in folder.iterdir()}

    def _own_folder(self, folder: Path) -> Path:
        """Return where in a checkpoint this learner's own files are."""
        return folder if self.learners.is_first else folder / _folder_of(self.learners.rank)

    def _described(self) -> dict[str, Any]:
        """Return what `agent.json` says of an agent, be it in a training or shared."""
        return {
            "class": type(self).__name__,
            "arguments": self.hyperparameters,
            "action_space": space_to_json(self.action_space),
            "n_envs": self.n_envs,
            "counters": {name: getattr(self, name) for name in self._counters},
        }

    def _described_policy(self) -> dict[str, Any]:
        """Return what `agent.json` says of a language policy."""
        policy = self.language_policy
        encoder = policy.encoder
        return {
            "policy": {name: argument_to_json(name, v) for name, v in self.policy_kwargs.items() if name != "model"},
            "language_model": {
                "name": policy.language_model.name,
                "template": encoder.template.as_json(),
                "tied": policy.language_model.tied,
                **describe_base(policy.language_model),
            },
            "max_prompt_tokens": encoder.max_tokens,
            "segments": isinstance(encoder, SegmentEncoder),
            "beside": encoder.layout.beside.as_json(),
            "changing_action_texts": encoder.action_texts.texts,
        }

    def _write_policy(self, folder: Path) -> dict[str, Any]:
        """Write what the agent has learned; return what `agent.json` is to say of it."""
        (folder / "language_model").mkdir()
        self.language_policy.language_model.save(folder / "language_model")
        write_tensors(folder / WEIGHTS, weights_to_save(self.language_policy))
        if self.rank_budget is not None:
            write_tensors(folder / "ranks.safetensors", self.rank_budget.get_state())
        optimizer, tensors = flatten_optimizer(self.policy.optimizer.state_dict())
        write_tensors(folder / "optimizer.safetensors", tensors)
        return {**self._described_policy(), "optimizer": optimizer}

    def _write_shared(self, folder: Path) -> None:
        """Write what a shared agent needs beside its language model: heads, and what else its actions hang on."""
        write_tensors(folder / HEADS, heads_of(self.language_policy))
        described = {**self._described(), **self._described_policy(), "shared": True}
        described["language_model"]["name"] = shared_name(described["language_model"]["name"])
        write_json(folder / "agent.json", described)

    def get_env_state(self) -> dict[str, Any] | None:
        """Return the state of the training environments, where they can tell it and a training has begun."""
        if self.env is None or self._last_obs is None or not hasattr(self.env.unwrapped, "get_state"):
            return None
        state: dict[str, Any] = self.env.unwrapped.get_state()
        return state

    @classmethod
    def load(  # type: ignore[override]
        cls: type[Self],
        path: Any,
        env: Any = None,
        device: torch.device | str = "auto",
        base_model: str | None = None,
        **arguments: Any,
    ) -> Self:
        """Load an agent from a checkpoint folder, or from one that `heed.agents.export` wrote.

        With an `env` of as many environments as the agent was trained on, `learn(..., reset_num_timesteps=False)`
        continues exactly where the checkpoint was made. One that several learners made is continued by as many. An
        agent that was shared has no optimizer and no replay buffer, and can be trained on from its weights only.

        Args:
            path: the checkpoint folder, which each of several learners reads.
            env: to train on; as in the constructor.
            device: as in SB3.
            base_model: of a checkpoint with an adapter: where the adapted model is, if not where it was.
            arguments: of the constructor, to change them.

        Raises:
            CheckpointFormatError: if the checkpoint is of a format that this version does not read.
            CheckpointError: if the checkpoint is missing, damaged, of another class, or holds what it must not, naming
                the file.
            ValueError: if `env` has other actions than the agent.
        """
        folder = home_of(Path(path))
        verify_checkpoint(folder)
        return cls._load_verified(folder, read_json(folder / "agent.json"), env, device, base_model, arguments)

    @classmethod
    def _load_verified(
        cls: type[Self],
        folder: Path,
        saved: Any,
        env: Any,
        device: torch.device | str,
        base_model: str | None,
        arguments: dict[str, Any],
    ) -> Self:
        """Load an agent from a checkpoint whose files are what its manifest says; `saved` is its `agent.json`."""
        if not isinstance(saved, dict) or saved.get("class") != cls.__name__:
            theirs = saved.get("class") if isinstance(saved, dict) else None
            raise CheckpointError(
                f"{folder / 'agent.json'} holds an agent of class {theirs}, not {cls.__name__}: use heed.agents.load."
            )
        known = inspect.signature(cls.__init__).parameters
        unknown = sorted(set(arguments) - set(known))
        if unknown:
            raise TypeError(f"{cls.__name__} has no argument {unknown[0]!r}; it has {', '.join(list(known)[1:])}.")
        check_agent(
            folder / "agent.json", saved, arguments=set(known) - set(_NOT_SAVED), counters=frozenset(cls._counters)
        )
        if env is not None and not saved.get("shared"):
            _require_as_many(folder, saved.get("learners", 1), current().count)
        device = get_device(device)
        # What the caller changes may be wrong in ways of its own.
        reading = contextlib.nullcontext() if arguments else as_checkpoint_error(folder)
        with reading:
            own_arguments, observation_space, wrap = cls._read_arguments(folder, saved, base_model)
            construct: Any = cls  # the mixin's constructor is the algorithm's
            agent: Self = construct(
                env=None,
                **own_arguments,
                device=device,
                _init_setup_model=False,
                **{key: argument_from_json(value) for key, value in saved["arguments"].items() if key not in arguments},
                **arguments,
            )
            agent.observation_space = observation_space
            agent.action_space = space_from_json(saved["action_space"])
            agent.n_envs = saved["n_envs"]
        if env is not None:
            if isinstance(env, VecEnv) and not isinstance(env.observation_space, PromptSpace):
                env = wrap(env)
            if env.action_space != agent.action_space:
                raise ValueError(
                    f"The agent acts in {agent.action_space}, but the environment's actions are {env.action_space}."
                )
            agent.env, agent.n_envs = env, env.num_envs
        building = contextlib.nullcontext() if arguments else as_checkpoint_error(folder, plays=True)
        with building:
            with limited_parameters(folder):
                agent._setup_model()
            if saved.get("shared"):
                agent._read_shared(folder, saved)
            else:
                agent._read(folder, saved)
        return agent

    @classmethod
    def _read_arguments(
        cls, folder: Path, saved: dict[str, Any], base_model: str | None
    ) -> tuple[dict[str, Any], spaces.Space[Any], Callable[[VecEnv], VecEnv]]:
        """Return the constructor's arguments beside those in `saved`, the observation space, what wraps an `env`."""
        name, template = saved["language_model"]["name"], PromptTemplate.from_json(saved["language_model"]["template"])
        policy_kwargs = {key: argument_from_json(value) for key, value in saved["policy"].items()}
        if policy_kwargs.get("adapter") is not None:
            dtype = weights_dtype(policy_kwargs.get("weights", "float32"))
            language_model = load_base(folder, saved["language_model"], base_model, dtype=dtype)
        elif saved.get("shared"):
            with limited_parameters(folder.parent):
                try:
                    language_model = read_shared_language_model(folder.parent, name, template)
                except LanguageModelError as error:
                    raise CheckpointError(str(error)) from None
        else:
            check_language_model(folder / "language_model", tensors=len(tensor_names(folder / WEIGHTS)))
            with limited_parameters(folder):
                tied = saved["language_model"].get("tied")  # checkpoints of earlier versions do not say
                language_model = rebuild_language_model(folder / "language_model", name, template, tied=tied)
        # Checkpoints of earlier versions hold words alone.
        beside = Beside.from_json(saved["beside"]) if "beside" in saved else NOTHING
        encoder = language_model.encoder(
            template=template,
            max_tokens=saved["max_prompt_tokens"],
            beside=beside,
            segments=bool(saved.get("segments", False)),
        )
        encoder.action_texts = ActionTexts(saved.get("changing_action_texts", ()))
        policy_kwargs["model"] = language_model
        return {"policy_kwargs": policy_kwargs}, encoder.space, lambda env: PromptVecEnv(env, encoder)

    def _read(self, folder: Path, saved: dict[str, Any]) -> None:
        """Put the saved state into this newly made agent; the random states come last."""
        place = self._own_folder(folder)
        own = saved if place == folder else read_json(place / OWN)
        self._read_policy(folder, saved)
        for name, wrapper in _reward_wrappers(self.env):
            if (place / name).is_file():
                wrapper.set_tensors(read_tensors(place / name))
        for name, value in saved["counters"].items():
            setattr(self, name, value)
        infos, successes = saved["episodes"]
        self.ep_info_buffer = deque(infos, maxlen=self._stats_window_size)
        self.ep_success_buffer = deque(successes, maxlen=self._stats_window_size)
        if self.env is not None and own["envs"] is not None and saved["n_envs"] == self.n_envs:
            self._last_obs = self._restore_envs(own["envs"])
            self._last_episode_starts = np.array(own["episode_starts"], dtype=bool)
        self._not_yet_logged = saved["log"]
        set_random_state(self.action_space, own["random"], read_tensors(place / "random.safetensors"))

    def _read_shared(self, folder: Path, saved: dict[str, Any]) -> None:
        """Put back what `_write_shared` wrote; the language model came with the policy."""
        set_heads(self.language_policy, read_tensors(folder / HEADS), folder / HEADS)
        for name, value in saved["counters"].items():
            setattr(self, name, value)

    def _read_policy(self, folder: Path, saved: dict[str, Any]) -> None:
        """Put back what `_write_policy` wrote."""
        file = folder / WEIGHTS
        put_back(self.language_policy, read_tensors(file), file)
        if self.rank_budget is not None:
            self.rank_budget.set_state(read_tensors(folder / "ranks.safetensors"))
        tensors = read_tensors(folder / "optimizer.safetensors")
        read_optimizer(self.policy.optimizer, saved["optimizer"], tensors, folder / "optimizer.safetensors")

    def _restore_envs(self, state: dict[str, Any]) -> npt.NDArray[Any] | None:
        assert self.env is not None
        if not isinstance(self.env, PromptVecEnv) or not hasattr(self.env.unwrapped, "set_state"):
            return None
        return self.env.set_state(state)


def _folder_of(rank: int) -> str:
    """Return the name of the folder in a checkpoint that holds another learner's own files than the first one's."""
    return f"learner-{rank}"


def _require_as_many(folder: Path, theirs: int, ours: int) -> None:
    """Refuse to go on with a training in another number of processes.

    Raises:
        CheckpointError: saying how many there were.
    """
    if theirs != ours:
        raise CheckpointError(
            f"{folder} was made by {theirs} {'process' if theirs == 1 else 'processes'}, each with environments and "
            f"random numbers of its own, and cannot be trained on by {ours}: start as many."
        )


_REWARD_WRAPPERS: dict[str, type[IntrinsicRewardVecEnv] | type[ScaledRewardsVecEnv]] = {
    "intrinsic_reward.safetensors": IntrinsicRewardVecEnv,
    "reward_scale.safetensors": ScaledRewardsVecEnv,
}
"""What changes rewards by what it has seen, and the file of a checkpoint that holds it."""


def _reward_wrappers(env: VecEnv | None) -> Iterator[tuple[str, IntrinsicRewardVecEnv | ScaledRewardsVecEnv]]:
    """Yield those that are around `env`, each with the name of its file."""
    for name, kind in _REWARD_WRAPPERS.items():
        wrapper = None if env is None else unwrap_vec_wrapper(env, kind)
        if wrapper is not None:
            yield name, wrapper
