"""Atari: joystick and games in words; with the emulator also auxiliary observations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from heed.envs import UnknownEnvironmentError, make_env
from heed.envs.contract import action_texts_of
from heed.envs.worlds.atari.words import action_in_words, game_of, instruction_for


def test_joystick_in_words() -> None:
    assert [action_in_words(name) for name in ("NOOP", "FIRE", "UP", "DOWNLEFT", "UPRIGHTFIRE", "LEFTFIRE")] == [
        "do nothing",
        "fire",
        "up",
        "down left",
        "up right and fire",
        "left and fire",
    ]
    for wrong in ("JUMP", "", "FIREUP"):
        with pytest.raises(ValueError, match="has no action"):
            action_in_words(wrong)


def test_games_in_words() -> None:
    assert game_of("ALE/SpaceInvaders-v5") == "SpaceInvaders"
    assert instruction_for("SpaceInvaders") == "play Space Invaders: score points"
    assert instruction_for("Pong") == "play Pong: score more points than your opponent"


def test_a_missing_library_is_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "ale_py", None)
    monkeypatch.delitem(sys.modules, "heed.envs.worlds.atari.world", raising=False)
    with pytest.raises(UnknownEnvironmentError, match=r"pip install 'heed\[atari\]'"):
        make_env("ALE/Pong-v5")


class TestWithTheLibrary:
    @pytest.fixture(autouse=True)
    def ale(self) -> Any:
        return pytest.importorskip("ale_py", reason="The emulator is not installed: pip install 'heed[atari]'")

    def test_the_screen_stands_beside_lives_and_score(self) -> None:
        env = make_env("ALE/Breakout-v5")
        observation, _ = env.reset(seed=0)
        assert env.observation_space.contains(observation)
        assert observation["observation"] == "lives 5; score 0"
        assert observation["image"].shape == (84, 84, 3)
        # The upper half of the screen has the bricks, red above blue.
        bricks = observation["image"][22:38].reshape(-1, 3).astype(int)
        assert bricks[:200, 0].mean() > bricks[:200, 2].mean()
        assert action_texts_of(env) == ("do nothing", "fire", "right", "left")

    def test_the_memory_may_stand_there_instead(self) -> None:
        env: Any = make_env("ALE/Pong-v5", obs_type="ram")
        observation, _ = env.reset(seed=0)
        assert env.observation_space.contains(observation)
        assert "image" not in observation
        np.testing.assert_array_equal(observation["numbers"], env.unwrapped.ale.getRAM())

    def test_a_lost_game_is_no_success(self) -> None:
        env = make_env("ALE/Pong-v5", frameskip=20)
        observation, _ = env.reset(seed=0)
        terminated = False
        while not terminated:  # nobody at the paddle: 21 points for the opponent
            observation, _, terminated, _, info = env.step(0)
        assert observation["observation"] == "score -21"
        assert info["is_success"] is False
