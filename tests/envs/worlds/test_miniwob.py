"""MiniWoB++ in the real browser; skipped where the package or Chromium is missing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest

from heed.envs.contract import ChangingActions, UnknownEnvironmentError, check_admissible_actions
from heed.envs.make import make, make_env

pytest.importorskip("miniwob", reason="MiniWoB++ is not installed: pip install 'heed[miniwob]'")

from heed.envs.worlds.miniwob.browser import Browser, BrowserError, find_browser
from heed.envs.worlds.miniwob.world import WebTask

try:
    find_browser()
except UnknownEnvironmentError as missing:
    pytest.skip(str(missing), allow_module_level=True)


@pytest.fixture(scope="module", autouse=True)
def _one_browser() -> Iterator[None]:
    """Keep one browser for all tests: to start it takes longer than they do."""
    window = Browser.shared().open_window()
    yield
    window.close()


@contextlib.contextmanager
def web(name: str, **kwargs: Any) -> Iterator[gymnasium.Env[Any, Any]]:
    """Make a task and close it."""
    env = make_env(f"miniwob/{name}-v1", **kwargs)
    try:
        yield env
    finally:
        env.close()


def do(env: gymnasium.Env[Any, Any], observation: Any, action: str) -> Any:
    """Do the action of this name."""
    return env.step(observation["actions"].index(action))


def test_a_page_in_words() -> None:
    """The contract's spaces, and what stands on the page."""
    with web("click-test-2") as env:
        observation, _ = env.reset(seed=0)
        assert observation["instruction"] == "Click button ONE."
        assert observation["observation"] == "button ONE; button TWO"
        assert observation["actions"] == ("click button ONE", "click button TWO")
        assert env.action_space == ChangingActions(64)
        assert env.observation_space.contains(observation)


def test_the_right_button_wins_and_the_wrong_one_loses() -> None:
    """With the reward that does not shrink with time."""
    with web("click-test-2") as env:
        observation, _ = env.reset(seed=0)
        _, reward, terminated, truncated, info = do(env, observation, "click button ONE")
        assert (reward, terminated, truncated, info["is_success"]) == (1.0, True, False, True)
        observation, _ = env.reset(seed=0)
        _, reward, terminated, truncated, info = do(env, observation, "click button TWO")
        assert (reward, terminated, truncated, info["is_success"]) == (-1.0, True, False, False)


def test_text_is_typed_with_real_keys() -> None:
    """It takes the place of what was there, and Submit reads it."""
    with web("enter-text") as env:
        observation, _ = env.reset(seed=0)
        name = observation["instruction"].split('"')[1]
        for _ in range(2):  # the second time it would be there twice
            observation, *_ = do(env, observation, f"type {name} into text box")
            assert observation["observation"].startswith(f'text box (focused, "{name}")')
        *_, info = do(env, observation, "click button Submit")
        assert info["is_success"]


def test_a_list_is_chosen_from() -> None:
    """Which a click alone cannot do without a screen."""
    with web("choose-list") as env:
        observation, _ = env.reset(seed=1)
        name = observation["instruction"].split(" from")[0].removeprefix("Select ")
        (choose,) = (text for text in observation["actions"] if text.startswith(f"choose {name} in"))
        observation, *_ = do(env, observation, choose)
        *_, info = do(env, observation, "click button Submit")
        assert info["is_success"]


def test_the_option_that_the_text_names_is_chosen() -> None:
    """Also beside empty, repeated and disabled ones, of one list and of one from which several are chosen."""
    options = (
        "<option></option><option>A</option><option>B</option><option>A</option><option disabled>C</option>"
        "<optgroup disabled><option>D</option></optgroup><option label='E'>F</option><option>A (2)</option>"
    )
    expected = {"(empty)": 0, "A": 1, "B": 2, "A (3)": 3, "E": 6, "A (2)": 7}
    selected = "return Array.from(document.querySelector('select').selectedOptions, (one) => one.index);"
    for multiple in (False, True):
        with web("choose-list", max_steps=100) as env:
            env.reset(seed=0)
            task: Any = env.unwrapped
            task._shown.run(
                "const list = document.querySelector('select'); list.innerHTML = arguments[0];"
                "list.multiple = arguments[1]; list.selectedIndex = 0;",
                options,
                multiple,
            )
            observation = task._words(task._page(""))
            listed = [text for text in observation["actions"] if text.startswith(("choose", "unselect"))]
            assert [text.split(" ", 1)[1].rpartition(" in list")[0] for text in listed] == list(expected)
            for name, index in expected.items():
                (text,) = [text for text in observation["actions"] if text.startswith(f"choose {name} in list")] or [""]
                if multiple and index == 0:
                    assert not text  # it is chosen already
                    continue
                observation, *_ = do(env, observation, text)
                chosen = task._shown.run(selected)
                assert index in chosen
                assert multiple or chosen == [index]
            if multiple:
                (text,) = [text for text in observation["actions"] if text.startswith("unselect B in list")]
                do(env, observation, text)
                assert 2 not in task._shown.run(selected)


def test_a_part_is_no_success() -> None:
    """To leave out boxes brings a part of the reward; of two boxes of which one is meant, 0."""
    with web("click-checkboxes") as env:
        for seed in range(20):
            observation, _ = env.reset(seed=seed)
            _, reward, terminated, _, info = do(env, observation, "click button Submit")
            assert terminated
            assert info["is_success"] == (reward == 1.0)
            if 0 < reward < 1:
                return
    pytest.fail("no seed gave a part of the reward")


def test_same_seed_same_episode_whatever_was_before() -> None:
    """Also where something was clicked and focused in the episode before."""
    with web("login-user") as env:
        first, _ = env.reset(seed=3)
        do(env, first, first["actions"][1])
        between, _ = env.reset(seed=4)
        assert between["instruction"] != first["instruction"]
        again, _ = env.reset(seed=3)
        assert again == first


def test_time_stands_still() -> None:
    """A section that opens in 0.4 s is open after the step that takes a second, however fast the test is."""
    with web("click-collapsible") as env:
        observation, _ = env.reset(seed=0)
        (section,) = (text for text in observation["actions"] if "Section" in text)
        opened, *_ = do(env, observation, section)
        observation, _ = env.reset(seed=0)
        again, *_ = do(env, observation, section)
        assert opened == again
        assert len(opened["observation"]) > len(observation["observation"])


def test_windows_of_one_browser_do_not_disturb_each_other() -> None:
    """Each believes that it has the focus: both episodes are won by focusing, in turns."""
    with web("focus-text") as one, web("focus-text") as other:
        assert one.unwrapped._window.browser is other.unwrapped._window.browser  # type: ignore[attr-defined]
        observations = [one.reset(seed=0)[0], other.reset(seed=1)[0]]
        for env, observation in zip((one, other), observations, strict=True):
            *_, info = do(env, observation, "click text box")
            assert info["is_success"]


def test_an_episode_ends_at_its_limit() -> None:
    """Truncated, and no success."""
    with web("enter-text", max_steps=2) as env:
        observation, _ = env.reset(seed=0)
        observation, _, terminated, truncated, _ = do(env, observation, "click text box")
        assert (terminated, truncated) == (False, False)
        _, _, terminated, truncated, info = do(env, observation, "click text box")
        assert (terminated, truncated, info["is_success"]) == (False, True, False)


def test_an_action_that_is_not_there_is_refused() -> None:
    """In a sentence."""
    with web("click-test-2") as env:
        env.reset(seed=0)
        with pytest.raises(ValueError, match="There are 2 actions on this page, but the action is 2"):
            env.step(2)


def test_a_picture_is_an_auxiliary_observation() -> None:
    """It shows another page for another seed, and a click."""
    with web("click-test-2", image=True, render_mode="rgb_array") as env:
        pictures = [env.reset(seed=seed)[0]["image"] for seed in (0, 1)]
        assert pictures[0].shape == (210, 160, 3)
        assert env.observation_space["image"].contains(pictures[0])  # type: ignore[index]
        assert (pictures[0] != pictures[1]).any()
        assert np.array_equal(env.render(), pictures[1])  # type: ignore[arg-type]


def test_lists_are_bounded() -> None:
    """And keep what the instruction names."""
    with web("click-button", most=2) as env:
        for seed in range(5):
            observation, _ = env.reset(seed=seed)
            check_admissible_actions(observation["actions"], 2)
            wanted = observation["instruction"].split('"')[1]
            assert any(wanted in text for text in observation["actions"])


def test_a_browser_that_died_is_replaced() -> None:
    """The step tells; the next reset starts another."""
    with web("click-test-2", render_mode=None) as env:
        observation, _ = env.reset(seed=0)
        dead = env.unwrapped._window.browser  # type: ignore[attr-defined]
        dead._process.kill()
        with pytest.raises(BrowserError, match="has ended"):
            do(env, observation, "click button ONE")
        observation, _ = env.reset(seed=0)
        *_, info = do(env, observation, "click button ONE")
        assert info["is_success"]


def test_tasks_stand_side_by_side() -> None:
    """In a vector, lists of actions and all."""
    venv = make("miniwob/click-test-2-v1", n_envs=2, seed=0)
    observations = venv.reset()
    lists = list(observations["actions"])  # type: ignore[call-overload]
    actions = [lists[0].index("click button ONE"), lists[1].index("click button TWO")]
    _, rewards, dones, infos = venv.step(np.array(actions))
    assert rewards.tolist() == [1.0, -1.0]
    assert dones.all()
    assert [info["is_success"] for info in infos] == [True, False]
    venv.close()


@pytest.mark.parametrize(("kwargs", "words"), [({"max_steps": 0}, "max_steps"), ({"typing": "all"}, "typing")])
def test_bad_arguments_are_refused(kwargs: dict[str, Any], words: str) -> None:
    """By name."""
    with pytest.raises(ValueError, match=words):
        WebTask("miniwob.envs.miniwob_envs:ClickTestEnv", **kwargs)
