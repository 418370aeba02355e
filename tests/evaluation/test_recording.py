"""Recorded episodes: the right number of frames of one size, and the same episode that the evaluation plays."""

from __future__ import annotations

import io
from typing import Any

import gymnasium
import numpy as np
import pytest
from PIL import Image

from heed.envs.demonstrations.demonstrate import action_generator
from heed.envs.make import make_env
from heed.envs.wrappers.history import History
from heed.evaluation.explanation import recording
from heed.evaluation.explanation.recording import MAX_BYTES, MAX_FRAMES, Recording, make_recordable_env, record_episode
from heed.evaluation.playing import run_episodes, sampled
from tests.buttons import Buttons
from tests.uniform import Uniform

LEVEL = "BabyAI-GoToLocal-v0"


def record(env: gymnasium.Env[Any, Any], seed: int) -> Recording:
    agent: Any = Uniform(env.action_space)
    return record_episode(agent, env, seed=seed, generator=action_generator(seed))


def frames_of(recording: Recording) -> list[Image.Image]:
    with Image.open(io.BytesIO(recording.gif)) as gif:
        frames = []
        for number in range(getattr(gif, "n_frames", 1)):
            gif.seek(number)
            frames.append(gif.convert("RGB"))
    return frames


@pytest.mark.parametrize("seed", [0, 3])
def test_every_step_has_a_frame_and_the_end_one_more(seed: int) -> None:
    recording = record(make_recordable_env(LEVEL), seed)
    frames = frames_of(recording)
    # Exactly: the step's number stands in each frame, so that the writer finds no two equal ones to merge.
    assert len(frames) == recording.steps + 1
    assert len({frame.size for frame in frames}) == 1
    assert len(recording.gif) < MAX_BYTES


def test_it_is_the_episode_that_the_evaluation_plays() -> None:
    agent: Any = Uniform(make_env(LEVEL).action_space)
    for episode in run_episodes(lambda: make_env(LEVEL), sampled(agent), [3, 4]):
        recording = record(make_recordable_env(LEVEL), episode.seed)
        assert (recording.steps, recording.success) == (episode.length, episode.success)
        assert recording.episode_return == pytest.approx(episode.episode_return)
        assert recording.instruction == episode.instruction
        assert ("Success" if episode.success else "Failure") in recording.caption


def test_a_long_episode_is_thinned() -> None:
    recording = record(make_recordable_env("BabyAI-KeyCorridorS3R1-v0"), 1)
    assert recording.steps > 2 * MAX_FRAMES
    assert len(frames_of(recording)) <= MAX_FRAMES + 1


def test_an_environment_without_pictures_shows_its_words() -> None:
    recording = record(Buttons(), 0)
    frames = frames_of(recording)
    assert len(frames) == 2
    assert len(np.unique(np.asarray(frames[0]).reshape(-1, 3), axis=0)) > 2  # not an empty frame


def test_of_a_history_the_words_show_the_current_observation() -> None:
    with_history = record(make_env("CartPole-v1", history=3), 0)
    assert with_history.steps > 6
    assert with_history.gif == record(make_env("CartPole-v1"), 0).gif


def test_a_recordable_environment_has_the_history_that_is_asked_for() -> None:
    for env_id in (LEVEL, "examples.boxes:Boxes-v0"):  # with pictures and without
        env = make_recordable_env(env_id, history=2)
        assert isinstance(env, History)
        assert env.length == 2


def test_actions_without_probabilities_have_no_bars() -> None:
    recording = record(make_env("Pendulum-v1"), 0)
    assert recording.steps == 200
    assert frames_of(recording)


def test_an_environment_that_cannot_draw_here_is_shown_in_words(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "_CANNOT_DRAW", set())
    asked = []

    class Undrawable(Buttons):
        metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 - as Gymnasium has it

        def render(self) -> Any:
            asked.append(self.render_mode)
            raise RuntimeError("no OpenGL here")

    def make_undrawable(env_id: str, *, history: int, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
        env = Undrawable()
        env.render_mode = render_mode
        return env

    env = make_recordable_env("Screen-v0", make=make_undrawable)
    assert env.render_mode is None
    assert "Screen-v0 cannot draw here, so it is shown in words: RuntimeError: no OpenGL here" in caplog.text
    assert len(frames_of(record(env, 0))) > 1
    # A second try would end the process, were it MuJoCo.
    assert make_recordable_env("Screen-v0", make=make_undrawable).render_mode is None
    assert asked == ["rgb_array"]
