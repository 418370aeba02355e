"""The language contract: what every environment that Heed trains on speaks.

A language environment is a `gymnasium.Env` with

- `observation_space`: a `Dict` with the keys `instruction` and `observation`, both `Text`; further keys
  (`image`, ...) may be there besides;
- `action_texts`: a tuple of words, one for each action, where the action space is `Discrete`; reached with
  `env.get_wrapper_attr("action_texts")`. Other action spaces have none;
- or, where the actions that can be done change from state to state, the action space `ChangingActions(n)` and in each
  observation, under the key `actions`, the tuple of the texts of those that can be done now, one to n of them: action i
  is the i-th of these (`language_space(changing_actions=True)` has the key);
- `info["is_success"]`: a bool on the last step of every episode: did the agent do what it was told?
- `terminated` and `truncated` as Gymnasium means them, never both;
- and, if it likes, a method `expert_action() -> int`, reached with `env.get_wrapper_attr("expert_action")`: what an
  expert would do now, whoever chose the actions before. It raises `ExpertError` where the expert does not know.

It may offer `fulfilled_instructions()` as well, which `env.get_wrapper_attr` finds. Called after each reset and each
step, it returns the other instructions that this last step would have fulfilled, had they been given at the episode's
start, each with the reward that the step would have brought: what hindsight replay learns from. Up to there the
episode must have been the one under that instruction: the same observations, and the same rewards.

For other instructions in the same world (`heed.evaluation.axes`), an environment that offers this may offer
`possible_instructions() -> tuple[str, ...]` too: called after a reset, it lists what can be done in this episode's
world in place of its own instruction, in a fixed order, and `fulfilled_instructions` names each of these once it is
done. What is done already as the episode begins, or has to be done on the way to the own instruction, or only after
it, is not among them: whoever obeys the own one, and nobody else, would seem to obey the other. And
`impossible_instructions() -> tuple[str, ...]`: such as it might have given, but which cannot be done here. With these,
`heed.envs.CannotBeDone` adds an action to say so. Whoever offers such an action sets `info["said_cannot_be_done"]`, a
bool, on the last step of every episode.

It may also offer `give_two_parts(generator) -> str | None`: called right after a reset, it makes the episode's own
instruction one of two parts ("... after you ..."), whose rewards, ends and expert are from then on its own, and
returns it; None where it cannot (`heed.envs.wrappers.two_parts`).

Where instructions have parts ("open the door, then go to the ball"), an environment may offer
`fulfilled_parts() -> tuple[str, ...]`: after each step, the parts of the episode's own instruction that count as done
by now, in the order in which they are said (`heed.envs.SubInstructionRewards`).

`require_language_env` refuses what breaks the first two at once, in a sentence; `heed.envs.checks` plays
episodes and tests the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

MAX_TEXT_LENGTH = 100_000
"""Characters that a `FreeText` holds unless told otherwise: a bound against runaway text, not a format."""


ACTION_SPACES = (spaces.Discrete, spaces.Box, spaces.MultiDiscrete, spaces.MultiBinary)
"""What SB3's algorithms can act in."""

OPTIONAL_METHODS = (
    "expert_action",
    "fulfilled_instructions",
    "fulfilled_parts",
    "possible_instructions",
    "impossible_instructions",
)
"""What an environment may offer besides its steps; each takes no arguments."""

SAID_CANNOT_BE_DONE = "said_cannot_be_done"
"""The key of the last step's `info`: whether the agent said that it cannot be done, where it can say so."""

GIVE_TWO_PARTS = "give_two_parts"
"""The method that makes an episode's instruction one of two parts; it takes the generator of its draws."""


class LanguageObservation(TypedDict):
    """One observation of a language environment; there may be further keys."""

    instruction: str
    observation: str


class ContractError(ValueError):
    """An environment breaks the language contract. The message says which rule and how to fix it."""


class UnknownEnvironmentError(ValueError):
    """No environment can be made under this id; the message says why, with ids that look like it."""


class ExpertError(ValueError):
    """An environment's expert does not know what to do in this episode. The message says why."""


class FreeText(spaces.Text):
    """A `Text` space that holds any string of any alphabet, up to `max_length` characters.

    Gymnasium's own `Text` lists every admissible character, which shuts out most of Unicode.
    """

    def __init__(self, max_length: int = MAX_TEXT_LENGTH, *, seed: int | np.random.Generator | None = None):
        super().__init__(max_length, min_length=0, seed=seed)

    def contains(self, x: Any) -> bool:
        """Say whether `x` is a string of at most `max_length` characters."""
        return isinstance(x, str) and len(x) <= self.max_length

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        """Draw a short alphanumeric string: sampling `max_length` characters would help nobody."""
        length = int(self.np_random.integers(0, min(self.max_length, 32) + 1))
        return "".join(self.np_random.choice(list(self.character_list), size=length))

    def __repr__(self) -> str:
        return f"FreeText({self.max_length})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FreeText) and self.max_length == other.max_length


class TextActions(spaces.Discrete):
    """A `Discrete` action space whose actions have names: `texts[i]` are the words for action `i`.

    Raises:
        ContractError: if there are no texts, one is empty or not a string, or two are the same.
    """

    def __init__(self, texts: Sequence[str], *, seed: int | np.random.Generator | None = None):
        check_action_texts(texts, len(texts))
        super().__init__(len(texts), seed=seed)
        self.texts = tuple(texts)

    def __repr__(self) -> str:
        return f"TextActions({list(self.texts)})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TextActions) and self.texts == other.texts


class ChangingActions(spaces.Discrete):
    """Actions that change from state to state: action i is the i-th text of the observation's `actions`.

    Args:
        most: of how many actions there is a choice at most.
        seed: of `sample`, which draws from all `most`; an observation may list fewer (`sample_action`).

    Raises:
        ContractError: if `most` is not positive.
    """

    listed_in_observations = True
    """What tells a policy, which does not know this class, that its prompts hold the actions."""

    def __init__(self, most: int, *, seed: int | np.random.Generator | None = None):
        if most < 1:
            raise ContractError(f"There must be at least one action to choose, but `most` is {most}.")
        super().__init__(most, seed=seed)

    def __repr__(self) -> str:
        return f"ChangingActions({int(self.n)})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ChangingActions) and self.n == other.n


def language_space(*, changing_actions: bool = False, **others: spaces.Space[Any]) -> spaces.Dict:
    """Return the observation space of the contract, with `others` (such as an `image`) besides the text.

    With `changing_actions` it has the key `actions` as well, for an environment with `ChangingActions`.
    """
    words: dict[str, spaces.Space[Any]] = {"instruction": FreeText(), "observation": FreeText()}
    if changing_actions:
        words["actions"] = spaces.Sequence(FreeText())
    return spaces.Dict({**words, **others})


def speaks_language(env: gymnasium.Env[Any, Any]) -> bool:
    """Say whether the observation space of `env` is of the contract (`instruction` and `observation`)."""
    space = env.observation_space
    return isinstance(space, spaces.Dict) and all(
        isinstance(space.spaces.get(key), spaces.Text) for key in ("instruction", "observation")
    )


def action_texts_of(env: gymnasium.Env[Any, Any]) -> tuple[str, ...] | None:
    """Return the action texts that `env` or a wrapper around it names, or None where it names none.

    Raises:
        ContractError: if they are not a tuple or list.
    """
    try:
        texts = env.get_wrapper_attr("action_texts")
    except AttributeError:
        return None
    if texts is None:
        return None
    if isinstance(texts, str) or not isinstance(texts, Sequence):
        raise ContractError(f"`action_texts` must be a tuple of non-empty strings, but is {texts!r}.")
    return tuple(texts)


def number_of_actions(space: spaces.Discrete, observation: Mapping[str, Any]) -> int:
    """Return of how many actions there is a choice now: all of `space`, or those that the observation lists."""
    return len(observation["actions"]) if isinstance(space, ChangingActions) else int(space.n)


def sample_action(space: spaces.Space[Any], observation: Mapping[str, Any], generator: np.random.Generator) -> Any:
    """Draw one of the actions that there are now, each as likely as the others; of a space without a list, from it.

    Args:
        space: of the actions; one that is not Discrete draws from its own generator.
        observation: what was perceived last.
        generator: draws.
    """
    if not isinstance(space, spaces.Discrete):
        return space.sample()
    return int(generator.integers(number_of_actions(space, observation)))


def fulfilled_instructions_of(env: gymnasium.Env[Any, Any]) -> Callable[[], Mapping[str, float]]:
    """Return the method of `env` that tells which instructions its last step fulfilled, each with its reward.

    Raises:
        ContractError: if it has none.
    """
    try:
        method: Callable[[], Mapping[str, float]] = env.get_wrapper_attr("fulfilled_instructions")
    except AttributeError:
        raise ContractError(
            f"{env} does not tell what an episode fulfilled, which hindsight replay learns from: give it a method "
            "`fulfilled_instructions()`, as the page on environments says."
        ) from None
    return method


def possible_instructions_of(env: gymnasium.Env[Any, Any]) -> Callable[[], tuple[str, ...]] | None:
    """Return the method of `env` that lists what else can be done in the episode that has just begun, or None."""
    method: Callable[[], tuple[str, ...]] | None = method_of(env, "possible_instructions")
    return method


def can_be_told(env: gymnasium.Env[Any, Any]) -> Any:
    """Return the method of `env` that lists what can be done, if it also tells when that was done; else None."""
    try:
        fulfilled_instructions_of(env)
    except ContractError:
        return None
    return possible_instructions_of(env)


def impossible_instructions_of(env: gymnasium.Env[Any, Any]) -> Callable[[], tuple[str, ...]] | None:
    """Return the method of `env` that lists instructions which cannot be done in this episode's world, or None."""
    method: Callable[[], tuple[str, ...]] | None = method_of(env, "impossible_instructions")
    return method


def method_of(env: gymnasium.Env[Any, Any], name: str) -> Any:
    """Return what `env` or a wrapper around it offers under a name of `OPTIONAL_METHODS`, or None."""
    try:
        return env.get_wrapper_attr(name)
    except AttributeError:
        return None


def check_action_texts(texts: Sequence[Any], n_actions: int) -> None:
    """Check that `texts` names each of `n_actions` actions once.

    Raises:
        ContractError: if the number is wrong, a text is empty or not a string, or two are the same.
    """
    if isinstance(texts, str) or not all(isinstance(text, str) and text.strip() for text in texts):
        raise ContractError(f"`action_texts` must be a tuple of non-empty strings, but is {texts!r}.")
    if len(texts) != n_actions or n_actions == 0:
        raise ContractError(
            f"There are {len(texts)} action texts for {n_actions} actions: {list(texts)}. "
            "`action_texts` needs exactly one text for each action of the Discrete action space."
        )
    duplicates = sorted({text for text in texts if list(texts).count(text) > 1})
    if duplicates:
        raise ContractError(f"Two actions share the text {duplicates[0]!r}: give each its own words.")


def success_of(env: gymnasium.Env[Any, Any], info: dict[str, Any]) -> bool:
    """Return whether the episode that `env` has just ended reached what was instructed.

    Raises:
        ContractError: if the environment does not say.
    """
    if "is_success" not in info:
        raise ContractError(
            f"{env} ended an episode without info['is_success']. Set it on the last step, or "
            "on every step: a time limit around the environment ends episodes that it knows nothing of."
        )
    return bool(info["is_success"])


def expert_of(env: gymnasium.Env[Any, Any]) -> Callable[[], int] | None:
    """Return what tells the expert's action of `env` in its present state, or None where there is no expert.

    It may be asked several times in one state. To be right in every state of an episode it wants to be asked at the
    episode's beginning: an expert may remember what it has seen. It raises `ExpertError` where it does not know.
    """
    expert: Callable[[], int] | None = method_of(env, "expert_action")
    return expert


def require_language_env(env: gymnasium.Env[Any, Any]) -> None:
    """Refuse an environment that breaks the static part of the contract (spaces and action texts).

    Raises:
        ContractError: in a sentence that names the broken rule and the fix.
    """
    name = env.spec.id if env.spec is not None else type(env.unwrapped).__name__
    if not speaks_language(env):
        raise ContractError(
            f"{name} does not speak the language contract: its observation space must be a Dict with the "
            f"Text spaces `instruction` and `observation`, but is {env.observation_space}. "
            "Return `heed.envs.language_space()` as the observation space, or register a Verbalizer for it."
        )
    assert isinstance(env.observation_space, spaces.Dict)
    try:
        require_action_space(env.action_space)
    except ContractError as error:
        raise ContractError(f"{name}: {error}") from None
    lists_actions = "actions" in env.observation_space.spaces
    if lists_actions != isinstance(env.action_space, ChangingActions):
        raise ContractError(
            f"{name}: an environment whose observations list `actions` has the action space `ChangingActions(n)`, and "
            f"only such a one does: its observation space is {env.observation_space}, its action space "
            f"{env.action_space}."
        )
    if isinstance(env.action_space, spaces.Discrete) and not lists_actions:
        try:
            require_action_texts(env, env.action_space)
        except ContractError as error:
            raise ContractError(f"{name}: {error}") from None


def number_of(reward: Any) -> float:
    """Return a reward as a number; some environments return an array of one."""
    return float(reward.item() if isinstance(reward, np.ndarray) and reward.size == 1 else reward)


def check_admissible_actions(actions: Any, most: int) -> None:
    """Check what an observation lists under `actions`.

    Raises:
        ContractError: if it is no tuple of one to `most` different, non-empty strings.
    """
    if not isinstance(actions, tuple):
        raise ContractError(f"The observation's `actions` must be a tuple of strings, but are {actions!r}.")
    if not 1 <= len(actions) <= most:
        raise ContractError(
            f"The observation lists {len(actions)} actions, but `ChangingActions({most})` promises one to {most}."
        )
    if len(set(actions)) == len(actions) and all(isinstance(text, str) and text.strip() for text in actions):
        return  # the way of nearly every step, without counting
    check_action_texts(actions, len(actions))


def require_action_space(space: Any) -> None:
    """Refuse an action space that nothing can be learned in.

    Raises:
        ContractError: saying why.
    """
    if not isinstance(space, ACTION_SPACES):
        names = ", ".join(kind.__name__ for kind in ACTION_SPACES)
        raise ContractError(f"it has an action space that SB3 cannot act in: {space}. Use one of {names}.")
    if isinstance(space, spaces.MultiDiscrete) and np.any(space.start):
        raise ContractError(f"its actions start at {space.start.tolist()}, but they must start at 0: {space}.")
    if isinstance(space, spaces.MultiBinary) and not isinstance(space.n, int):
        raise ContractError(f"its actions have several dimensions, but must have one: {space}.")
    if isinstance(space, spaces.MultiDiscrete | spaces.Box) and (
        space.shape == () or (len(space.shape) > 1 and isinstance(space, spaces.MultiDiscrete))
    ):
        raise ContractError(f"its actions have the shape {space.shape}, but must have one dimension: {space}.")
    if isinstance(space, spaces.Box) and not space.is_bounded():
        raise ContractError(f"its actions have no bounds, which SB3 wants to be finite: {space}.")


def as_action(space: spaces.Space[Any], action: Any) -> Any:
    """Return an action as an environment of this action space takes it: an int, or an array of the space's type.

    The array is the environment's own, which may write into it.
    """
    if isinstance(space, spaces.Discrete):
        return int(action)
    if (
        isinstance(space, spaces.Box)
        and np.issubdtype(space.dtype, np.integer)
        and np.asarray(action).dtype.kind == "f"
    ):
        return _whole(space, np.asarray(action, dtype=np.float64))
    return np.array(action, dtype=space.dtype)


def _whole(space: spaces.Box, action: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
    """Return the whole numbers next to real ones that a policy chose; to cut them would never come to the largest."""
    rounded = np.rint(action)
    with np.errstate(invalid="ignore"):  # the largest int64 is, as a real number, one more than itself
        within = rounded.astype(space.dtype)
    return np.where(rounded >= space.high, space.high, np.where(rounded <= space.low, space.low, within))


def require_action_texts(env: gymnasium.Env[Any, Any], space: spaces.Discrete) -> None:
    """Refuse an environment with the `Discrete` action space `space` that does not name its actions.

    Raises:
        ContractError: in a sentence that names the broken rule and the fix.
    """
    texts = action_texts_of(env)
    if texts is None:
        raise ContractError(
            "It names no `action_texts`: give the environment an attribute `action_texts`, "
            f"a tuple of {space.n} strings such as ('turn left', ...)."
        )
    check_action_texts(texts, int(space.n))
    if space.start != 0:
        raise ContractError(f"Its actions start at {space.start}, but they must start at 0.")
