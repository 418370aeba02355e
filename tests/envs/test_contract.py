"""The contract: what is refused, and in which words."""

import pickle
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from heed.envs.contract import (
    ChangingActions,
    ContractError,
    FreeText,
    TextActions,
    action_texts_of,
    check_action_texts,
    check_admissible_actions,
    language_space,
    require_language_env,
    sample_action,
    speaks_language,
)


class Silent(gymnasium.Env[Any, Any]):
    """An environment of which only the spaces matter."""

    def __init__(self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any], texts: Any = None):
        self.observation_space = observation_space
        self.action_space = action_space
        if texts is not None:
            self.action_texts = texts


def test_free_text_holds_any_alphabet() -> None:
    space = FreeText(20)
    assert space.contains("zum grünen Ball ⚽")
    assert space.contains("")
    assert not spaces.Text(20).contains("grün")  # why there is a space of our own
    assert not space.contains("x" * 21)
    assert not space.contains(7)
    assert all(space.contains(space.sample()) for _ in range(20))
    assert space == FreeText(20)
    assert space != FreeText(21)
    assert pickle.loads(pickle.dumps(space)) == space  # noqa: S301 - as the processes of a vector send it


def test_text_actions_are_a_discrete_space_with_names() -> None:
    space = TextActions(["left", "right"])
    assert space.n == 2
    assert space.texts == ("left", "right")
    assert isinstance(space, spaces.Discrete)
    assert space == TextActions(("left", "right"))
    assert space != TextActions(("right", "left"))
    assert space != spaces.Discrete(2)


@pytest.mark.parametrize(
    ("texts", "n_actions", "message"),
    [
        (("left", "left"), 2, "Two actions share the text 'left'"),
        (("left", " "), 2, "non-empty strings"),
        (("left", 7), 2, "non-empty strings"),
        ("lr", 2, "non-empty strings"),
        (("left", "right"), 3, "2 action texts for 3 actions"),
        ((), 0, "0 action texts for 0 actions"),
    ],
)
def test_bad_action_texts_are_refused(texts: Any, n_actions: int, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        check_action_texts(texts, n_actions)


def test_language_space_takes_further_keys() -> None:
    picture = spaces.Box(0, 255, (4, 4, 3), dtype=np.uint8)
    assert dict(language_space(image=picture))["image"] == picture
    assert speaks_language(Silent(language_space(image=picture), spaces.Discrete(2)))
    assert not speaks_language(Silent(spaces.Dict(instruction=FreeText()), spaces.Discrete(2)))
    assert not speaks_language(Silent(FreeText(), spaces.Discrete(2)))


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (Silent(FreeText(), spaces.Discrete(2), ("a", "b")), "^Silent does not speak the language contract"),
        (Silent(language_space(), spaces.Discrete(2)), "^Silent: It names no `action_texts`.*a tuple of 2 strings"),
        (Silent(language_space(), spaces.Discrete(2), ("a",)), "^Silent: There are 1 action texts for 2 actions"),
        (Silent(language_space(), spaces.Discrete(2), "ab"), "^Silent: `action_texts` must be a tuple"),
        (Silent(language_space(), spaces.Discrete(2), 7), "^Silent: `action_texts` must be a tuple"),
        (Silent(language_space(), spaces.Discrete(2, start=1), ("a", "b")), "^Silent: Its actions start at 1"),
    ],
)
def test_broken_contract_is_told_in_a_sentence(env: Silent, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        require_language_env(env)


def test_kept_contract_is_accepted() -> None:
    require_language_env(Silent(language_space(), spaces.Discrete(2), ("a", "b")))
    require_language_env(Silent(language_space(), spaces.Box(-1, 1, (2,))))  # needs no texts


def test_action_texts_are_found_below_a_wrapper() -> None:
    env = Silent(language_space(), spaces.Discrete(2), ["a", "b"])
    assert action_texts_of(gymnasium.Wrapper(env)) == ("a", "b")
    assert action_texts_of(Silent(language_space(), spaces.Discrete(2))) is None


class Doors(gymnasium.Env[Any, Any]):
    """Lists as many doors as its first action space says, or others if told so."""

    def __init__(self, action_space: spaces.Space[Any], *, lists: bool = True) -> None:
        self.action_space = action_space
        self.observation_space = language_space(changing_actions=lists)


def test_changing_actions_come_with_the_observations_that_list_them() -> None:
    require_language_env(Doors(ChangingActions(3)))
    with pytest.raises(ContractError, match=r"lists? `actions`.*ChangingActions"):
        require_language_env(Doors(spaces.Discrete(3)))
    with pytest.raises(ContractError, match=r"lists? `actions`.*ChangingActions"):
        require_language_env(Doors(ChangingActions(3), lists=False))


def test_changing_actions_are_drawn_from_those_that_there_are() -> None:
    generator = np.random.default_rng(0)
    observation = {"instruction": "leave", "observation": "two doors", "actions": ("open one", "open two")}
    drawn = [sample_action(ChangingActions(5), observation, generator) for _ in range(100)]
    assert set(drawn) == {0, 1}
    assert {sample_action(spaces.Discrete(3), observation, generator) for _ in range(100)} == {0, 1, 2}
    assert language_space(changing_actions=True).contains(observation)


@pytest.mark.parametrize(
    ("actions", "said"),
    [
        (["open"], "tuple"),
        ((), "lists 0 actions"),
        (("a", "b", "c", "d"), r"lists 4 actions.*ChangingActions\(3\)"),
        (("open", "open"), "share the text 'open'"),
        (("open", " "), "non-empty"),
    ],
)
def test_what_is_no_list_of_actions_is_refused(actions: Any, said: str) -> None:
    with pytest.raises(ContractError, match=said):
        check_admissible_actions(actions, 3)
    check_admissible_actions(("open", "close"), 3)


def test_there_is_at_least_one_changing_action() -> None:
    with pytest.raises(ContractError, match="at least one"):
        ChangingActions(0)
    assert ChangingActions(2) == ChangingActions(2)
    assert ChangingActions(2) != spaces.Discrete(2)
