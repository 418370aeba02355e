"""Prompts: words become token ids in one place, and nothing is lost or changed in silence."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from stable_baselines3.common.preprocessing import is_image_space

from heed.envs.contract import TextActions
from heed.envs.make import make
from heed.policies.models.loading import load_language_model
from heed.policies.prompts.layout import PADDING
from heed.policies.prompts.prompt import PromptEncoder, PromptSpace, PromptVecEnv


@pytest.fixture(scope="module")
def encoder() -> PromptEncoder:
    return load_language_model("heed-tiny").encoder(max_tokens=64)


def words(*pairs: tuple[str, str]) -> dict[str, list[str]]:
    return {"instruction": [pair[0] for pair in pairs], "observation": [pair[1] for pair in pairs]}


def test_a_prompt_is_the_filled_template_padded_on_the_right(encoder: PromptEncoder) -> None:
    prompts = encoder(words(("go to the red ball", "red ball 2 left"), ("drop", "nothing")))
    assert prompts.shape == (2, 64)
    assert encoder.decode(prompts[0]) == encoder.template.format(
        instruction="go to the red ball", observation="red ball 2 left"
    )
    lengths = (prompts != PADDING).sum(axis=1)
    assert lengths[0] > lengths[1] > 0
    for row, length in zip(prompts, lengths, strict=True):
        assert (row[:length] >= 0).all()
        assert (row[length:] == PADDING).all()


def test_ids_are_of_the_smallest_type_that_holds_them(encoder: PromptEncoder) -> None:
    assert encoder(words(("a", "b"))).dtype == np.int16
    assert encoder.space.dtype == np.int16
    assert not is_image_space(encoder.space)


def test_any_unicode_goes_through_and_comes_back(encoder: PromptEncoder) -> None:
    text = "去红球 — ça va ? ☃ {x}"
    assert text in encoder.decode(encoder(words((text, "nothing")))[0])


def test_a_prompt_that_is_too_long_loses_the_end_of_its_observation_with_one_warning() -> None:
    encoder = load_language_model("heed-tiny").encoder(max_tokens=32)
    long = "; ".join(f"red ball {n} left 1 ahead" for n in range(1, 7))
    with pytest.warns(UserWarning, match="longer than 32"):
        prompt = encoder(words(("go to the red ball", long)))[0]
    text = encoder.decode(prompt)
    beginning, instruction = text.strip().split("\n")
    assert instruction.strip() == "go to the red ball"
    assert long.startswith(beginning.strip())
    assert len(beginning) > 40
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder(words(("go to the red ball", long + " again")))  # said once


def test_an_instruction_that_fills_the_prompt_is_refused() -> None:
    encoder = load_language_model("heed-tiny").encoder(max_tokens=16)
    with pytest.warns(UserWarning, match="longer than 16"), pytest.raises(ValueError, match="instruction alone needs"):
        encoder(words(("go to the red ball " * 10, "nothing")))


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        ("{instruction} only", "needs {instruction} and {observation}"),
        ("{instruction} {observation} {image}", "cannot be"),
    ],
)
def test_a_wrong_template_is_refused(template: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        load_language_model("heed-tiny").encoder(template=template)


def test_a_prompt_longer_than_the_model_takes_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 1024 tokens"):
        load_language_model("heed-tiny").encoder(max_tokens=2000)


def test_the_vectorised_environment_gives_prompts_of_its_words(encoder: PromptEncoder) -> None:
    env = PromptVecEnv(make("BabyAI-GoToRedBallNoDists-v0", n_envs=3, seed=0), encoder)
    assert isinstance(env.observation_space, PromptSpace)
    assert isinstance(env.action_space, TextActions)
    prompts = env.reset()
    assert encoder.decode(prompts[1]) == encoder.template.format(
        instruction=env.words["instruction"][1], observation=env.words["observation"][1]
    )
    ended: list[dict[str, Any]] = []
    for _ in range(70):  # a time limit of 64 steps
        following, _, dones, infos = env.step(np.zeros(3, dtype=int))
        assert isinstance(following, np.ndarray)
        assert env.observation_space.contains(following[0])
        ended += [info for info, done in zip(infos, dones, strict=True) if done]
    assert len(ended) == 3
    for info in ended:
        assert info["TimeLimit.truncated"] is True
        assert "go to the red ball" in encoder.decode(info["terminal_observation"])
        assert info["episode"]["l"] == 64


def test_an_environment_without_words_is_refused(encoder: PromptEncoder) -> None:
    from stable_baselines3.common.env_util import make_vec_env

    with pytest.raises(ValueError, match="carries no words"):
        PromptVecEnv(make_vec_env("CartPole-v1"), encoder)


def test_prompts_are_remembered_within_a_bound_and_stay_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heed.policies.prompts.prompt.REMEMBERED_TOKENS", 50)
    language_model = load_language_model("heed-tiny")
    encoder, fresh = language_model.encoder(max_tokens=64), language_model.encoder(max_tokens=64)
    for number in range(40):
        words = {
            "instruction": ["go to the red ball", "go to the key"],
            "observation": [f"red ball {number} ahead", f"red ball {number // 2} ahead"],
        }
        assert np.array_equal(encoder(words), fresh(words))
        fresh._remembered.clear()
        assert len(encoder._remembered) < 12
