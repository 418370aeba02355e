"""TextWorld's games; skipped where the package is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import pytest

from heed.envs.contract import ChangingActions, ExpertError
from heed.envs.make import make, make_env

pytest.importorskip("textworld", reason="TextWorld is not installed: pip install 'heed[textworld]'")

from heed.envs.worlds.textworld.world import game_file

HUNT = "Heed/TextWorld-TreasureHunter-v0"


@pytest.fixture(scope="module", autouse=True)
def _kept_games(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Make each game once for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEED_TEXTWORLD_GAMES", str(tmp_path_factory.mktemp("games")))
        yield


def play_as_expert(env: gymnasium.Env[Any, Any], seed: int) -> tuple[list[str], float, dict[str, Any]]:
    """Return the commands of an episode, its return, and its last info."""
    observation, _ = env.reset(seed=seed)
    commands, total = [], 0.0
    while True:
        action = env.get_wrapper_attr("expert_action")()
        commands.append(observation["actions"][action])
        observation, reward, terminated, truncated, info = env.step(action)
        total += float(reward)
        assert not (terminated and truncated)
        if terminated or truncated:
            return commands, total, info


def test_a_game_in_words() -> None:
    """The objective, the room, and only commands that do something."""
    env = make_env(HUNT, games=2)
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    assert env.action_space == ChangingActions(64)
    assert "\n" not in observation["instruction"]
    assert observation["observation"].endswith("carrying nothing")
    assert not {"look", "inventory"} & set(observation["actions"])
    room = observation["observation"].split(";")[0]
    observation, *_ = env.step(0)
    assert observation["actions"]
    assert observation["observation"].split(";")[0] != room or "carrying nothing" not in observation["observation"]


def test_the_expert_wins() -> None:
    """In as many commands as the level says (3 of level 5), for a return of 1."""
    env = make_env(HUNT, games=3)
    for seed in range(3):
        commands, total, info = play_as_expert(env, seed)
        assert len(commands) == 3
        assert commands[-1].startswith("take ")
        assert total == pytest.approx(1.0)
        assert info["is_success"]


def test_same_seed_same_game() -> None:
    """And other seeds give other games, as many as were asked for."""
    env = make_env(HUNT, games=2, level=1)
    first = {seed: env.reset(seed=seed)[1]["game"] for seed in range(8)}
    again = {seed: env.reset(seed=seed)[1]["game"] for seed in reversed(range(8))}
    assert first == again
    assert len(set(first.values())) == 2


def test_games_that_are_held_out_are_others() -> None:
    """None of them is among those of the training."""
    games = []
    for env_id in (HUNT, "Heed/TextWorld-TreasureHunterHeldOut-v0"):
        env = make_env(env_id, games=2, level=1)
        games.append({env.reset(seed=seed)[1]["game"] for seed in range(8)})
    assert len(games[0]) == len(games[1]) == 2
    assert not games[0] & games[1]


def test_a_limit_truncates() -> None:
    """An expert of 3 commands in 2 steps."""
    env = make_env(HUNT, games=1, max_steps=2)
    commands, total, info = play_as_expert(env, 0)
    assert (len(commands), total, info["is_success"]) == (2, 0.0, False)


def test_a_command_that_is_not_there_is_refused() -> None:
    """In a sentence."""
    env = make_env(HUNT, games=1)
    observation, _ = env.reset(seed=0)
    with pytest.raises(ValueError, match=f"There are {len(observation['actions'])} commands now"):
        env.step(len(observation["actions"]))


def test_before_a_game_there_is_no_expert() -> None:
    """It says so."""
    with pytest.raises(ExpertError, match="no way to win"):
        make_env(HUNT).get_wrapper_attr("expert_action")()


def test_a_file_is_played_from_its_facts(tmp_path: Path) -> None:
    """The same game under its file's name."""
    env = make_env(HUNT, games=1)
    observation, info = env.reset(seed=0)
    settings = env.unwrapped.settings  # type: ignore[attr-defined]
    file = game_file("tw-treasure_hunter", settings, 0)
    assert file.name == info["game"]
    same, _ = make_env("Heed/TextWorld-v0", game=str(file)).reset(seed=5)
    assert same == observation


def test_what_was_read_stays_readable() -> None:
    """A cookbook's recipe, from where it was read to the episode's end."""
    env = make_env("Heed/TextWorld-Cooking-v0", games=1, open=False, cook=False, cut=False, take=0)
    observation, _ = env.reset(seed=0)
    for command in ("examine cookbook", observation["actions"][-1]):
        observation, *_ = env.step(observation["actions"].index(command))
        assert "cookbook reads: " in observation["observation"]
        assert "Recipe" in observation["observation"]
    observation, _ = env.reset(seed=0)
    assert "cookbook reads" not in observation["observation"]


@pytest.mark.parametrize(
    ("env_id", "kwargs", "words"),
    [
        ("Heed/TextWorld-v0", {}, "needs a file"),
        ("Heed/TextWorld-v0", {"challenge": "tw-treasure"}, "no challenge 'tw-treasure', only"),
        (HUNT, {"depth": 3}, "no setting 'depth', only"),
        (HUNT, {"games": 0}, "at least 1"),
        ("Heed/TextWorld-Cooking-v0", {"go": 2}, "is one of"),
        ("Heed/TextWorld-v0", {"challenge": "tw-simple"}, "needs the setting"),
    ],
)
def test_bad_arguments_are_refused(env_id: str, kwargs: dict[str, Any], words: str) -> None:
    """With what there is instead."""
    with pytest.raises(ValueError, match=words):
        make_env(env_id, **kwargs)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    """By name."""
    with pytest.raises(FileNotFoundError, match="no game file"):
        make_env("Heed/TextWorld-v0", game=str(tmp_path / "none.z8"))


def test_games_stand_side_by_side() -> None:
    """In a vector whose lists differ in length."""
    venv = make(HUNT, n_envs=3, seed=0, games=3)
    observations = venv.reset()
    assert all(isinstance(actions, tuple) for actions in observations["actions"])  # type: ignore[call-overload]
    venv.close()
