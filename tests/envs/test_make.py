"""From an id to language environments, and what is said where that fails."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from stable_baselines3.common.vec_env import VecEnv

from heed.envs.contract import ContractError, UnknownEnvironmentError, language_space
from heed.envs.make import WORLDS, make, make_env
from heed.envs.vectorize import LanguageVecEnv
from heed.envs.words.verbalize import VerbalizedEnv

PLUGIN = """
import gymnasium
from heed.envs.contract import TextActions, language_space

class Door(gymnasium.Env):
    observation_space = language_space()
    action_texts = ("open the door", "wait")
    action_space = TextActions(action_texts)

    def __init__(self, color="red"):  # takes no render_mode: it draws nothing
        self.color = color

    def _words(self):
        return {"instruction": f"open the {self.color} door", "observation": "a closed door"}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._words(), {}

    def step(self, action):
        return self._words(), float(action == 0), action == 0, False, {"is_success": action == 0}

gymnasium.register("Plugged/Door-v0", Door, max_episode_steps=5)
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A user's package, whose import registers an environment that speaks for itself."""
    (tmp_path / "plugged_worlds").mkdir()
    (tmp_path / "plugged_worlds" / "doors.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(gymnasium.envs.registration, "registry", dict(gymnasium.registry))
    monkeypatch.delitem(sys.modules, "plugged_worlds.doors", raising=False)
    return "plugged_worlds.doors:Plugged/Door-v0"


def test_environment_of_a_users_module_is_used_as_it_is(plugin: str) -> None:
    env = make_env(plugin)
    assert not isinstance(env, VerbalizedEnv)
    assert env.reset(seed=0)[0] == {"instruction": "open the red door", "observation": "a closed door"}
    assert make_env(plugin, color="blue").reset()[0]["instruction"] == "open the blue door"


def test_time_limit_of_a_users_environment(plugin: str) -> None:
    env = make(plugin, n_envs=1)
    env.reset()
    for _ in range(5):
        _, _, dones, infos = env.step([1])  # type: ignore[arg-type]
    assert dones[0]
    assert infos[0]["TimeLimit.truncated"]
    for action in (1, 1, 1, 1, 0):
        _, _, dones, infos = env.step([action])  # type: ignore[arg-type]
    # Gymnasium's limit says so too, on the last allowed step.
    assert dones[0]
    assert not infos[0]["TimeLimit.truncated"]
    assert infos[0]["is_success"]


@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        ("BabyAI-GoToLoca-v0", "There is no environment 'BabyAI-GoToLoca-v0'. Did you mean BabyAI-GoToLocal-v0"),
        ("BabyAI-GoToLocal-v7", "Did you mean BabyAI-GoToLocal-v0"),
        ("minigrid:BabyAI-GoToLoca-v0", "Did you mean BabyAI-GoToLocal-v0"),
        ("CartPole-v-1", "There is no environment 'CartPole-v-1'. Did you mean CartPole-v"),
        ("nowhere/Qqqq-v0", "Name one that Gymnasium has registered"),
        ("two words", "Name one that Gymnasium has registered"),
        ("", "Name one that Gymnasium has registered"),
        ("no_such_package.module:X-v0", "Cannot import what 'no_such_package.module:X-v0' needs.*no_such_package"),
    ],
)
def test_unknown_id(env_id: str, message: str) -> None:
    with pytest.raises(UnknownEnvironmentError, match=message):
        make_env(env_id)


def test_missing_dependency_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def create(**_: Any) -> gymnasium.Env[Any, Any]:
        raise gymnasium.error.DependencyNotInstalled('Box2D is not installed, run `pip install "x[box2d]"`')

    monkeypatch.setitem(gymnasium.registry, "Needy-v0", gymnasium.envs.registration.EnvSpec("Needy-v0", create))
    with pytest.raises(UnknownEnvironmentError, match="'Needy-v0' needs: Box2D is not installed, run"):
        make_env("Needy-v0")


def test_broken_contract_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nameless(gymnasium.Env[Any, Any]):
        observation_space = language_space()
        action_space = gymnasium.spaces.Discrete(2)

    spec = gymnasium.envs.registration.EnvSpec("Nameless-v0", lambda **_: Nameless())
    monkeypatch.setitem(gymnasium.registry, "Nameless-v0", spec)
    with pytest.raises(ContractError, match="Nameless-v0: It names no `action_texts`"):
        make_env("Nameless-v0")


def test_render_mode_reaches_the_environment() -> None:
    env = make("BabyAI-GoToLocal-v0", n_envs=2, render_mode="rgb_array")
    env.reset()
    assert env.render_mode == "rgb_array"
    assert [getattr(image, "ndim", None) for image in env.get_images()] == [3, 3]


def test_make_gives_a_vector() -> None:
    env = make("BabyAI-GoToLocal-v0", n_envs=3, num_dists=1)
    assert isinstance(env, LanguageVecEnv)
    assert isinstance(env, VecEnv)
    assert env.num_envs == 3
    assert env.get_attr("num_dists") == [1, 1, 1]
    with pytest.raises(ValueError, match="n_envs and processes must be at least 1, but are 0 and 1"):
        make("BabyAI-GoToLocal-v0", n_envs=0)


def test_unknown_id_is_told_before_processes_start() -> None:
    with pytest.raises(UnknownEnvironmentError, match="Did you mean BabyAI-GoToLocal-v0"):
        make("BabyAI-GoToLoca-v0", n_envs=2, processes=2)


def test_public_face() -> None:
    import heed.envs

    for name in heed.envs.__all__:
        assert getattr(heed.envs, name) is not None
    code = "import sys, heed.envs; sys.exit('transformers' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_optional_world_is_imported_when_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "heed_test_world.py").write_text(PLUGIN.replace("Plugged/Door-v0", "plugged-world/Door-v0"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(WORLDS, "plugged-world/", "heed_test_world")
    make_env("BabyAI-GoToLocal-v0")
    assert "heed_test_world" not in sys.modules
    try:
        assert make_env("plugged-world/Door-v0").reset()[0]["observation"] == "a closed door"
        with pytest.raises(UnknownEnvironmentError, match="Did you mean plugged-world/Door-v0"):
            make_env("plugged-world/Dor-v0")
    finally:
        sys.modules.pop("heed_test_world", None)
        gymnasium.registry.pop("plugged-world/Door-v0", None)


def test_package_names_its_environments_in_an_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "heed_test_package.py").write_text(PLUGIN.replace("Plugged/Door-v0", "PackagedDoor-v0"))
    (tmp_path / "heed_test_package-1.0.dist-info").mkdir()
    metadata = tmp_path / "heed_test_package-1.0.dist-info"
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: heed-test-package\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[heed.environments]\nPackaged* = heed_test_package\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    make_env("BabyAI-GoToLocal-v0")
    assert "heed_test_package" not in sys.modules
    try:
        assert make_env("PackagedDoor-v0").reset()[0]["observation"] == "a closed door"
        assert make_env("PackagedDoor-v0") is not None  # registered now: imported once
    finally:
        sys.modules.pop("heed_test_package", None)
        gymnasium.registry.pop("PackagedDoor-v0", None)


def test_missing_library_of_a_world_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WORLDS, "nowhere/", "no_such_library.nowhere")
    with pytest.raises(
        UnknownEnvironmentError, match=r"No module named 'no_such_library'.*pip install 'heed\[nowhere\]'$"
    ):
        make_env("nowhere/Door-v0")
