"""The probes: whole agents solve them, and agents that are broken on purpose fail at the part that is broken."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stable_baselines3 import PPO as SB3PPO

from heed.agents.exploration.intrinsic import newest_observation
from heed.agents.probing import GAMMA, Result, check_agent
from heed.envs import LanguageVecEnv
from heed.envs.contract import require_language_env
from heed.envs.probes import PROBES
from heed.policies import LanguageActorCriticPolicy, PromptVecEnv, load_language_model
from heed.policies.models.language_model import LanguageModel
from tests.probe_matrix import MATRIX, check, check_whole, maker, models, skipped

ALL = tuple(PROBES)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], LanguageModel]:
    """Returns a model of a kind."""
    return models(Path(tmp_path_factory.mktemp("models")))


@pytest.fixture(scope="module")
def whole() -> dict[str, Result]:
    """What came of each probe for PPO with heed-tiny and the score head."""
    return {result.probe: result for result in check("ppo", maker("ppo"))}


def outcomes(results: Iterable[Result]) -> dict[str, str]:
    return {result.probe: result.outcome for result in results}


# -- the environments ---------------------------------------------------------------------------------------------

VALUES = {
    "value": [1.0],
    "observation": [1.0, -1.0],
    "action": [1.0],
    "choice": [1.0] * 2,
    "delay": [0.9, 0.0, 1.0],
    "instruction": [1.0] * 2,
    "actions": [1.0] * 8,
    "numbers": [1.0] * 4,
    "picture": [1.0] * 2,
    "memory": [0.9, 1.0] * 2,
}
"""V* of each state with gamma = 0.9, worked out by hand."""


@pytest.mark.parametrize("name", ALL)
def test_a_probe_is_an_environment_whose_values_are_known(name: str) -> None:
    env = PROBES[name].make()
    require_language_env(env)
    cases = PROBES[name].cases(gamma=0.9)
    assert [case.value for case in cases] == pytest.approx(VALUES[name])
    env.reset(seed=0)
    for case in cases:
        assert env.observation_space.contains(case.observation)
    # The best actions earn what they are worth, and the others what they are.
    for number, start in enumerate(PROBES[name].starts):
        for action, worth in enumerate(start.action_values(1.0)):
            env.reset(options={"start": number})
            _, reward, over, _, _ = env.step(action)
            while not over:
                best = int(np.argmax([env.unwrapped._state.action_values(1.0)]))  # type: ignore[attr-defined]
                _, reward, over, _, _ = env.step(best)
            assert reward == worth


def test_neither_one_action_nor_chance_solves_a_choice() -> None:
    for name in ("choice", "instruction", "actions", "numbers", "picture"):
        best = [case.best for case in PROBES[name].cases(gamma=1.0)]
        assert len(set(best)) > 1, name


# -- whole agents -------------------------------------------------------------------------------------------------

REST = [
    pytest.param(*which, marks=() if which[0] == "q-learning" else pytest.mark.exhaustive)
    for which in MATRIX
    if which != ("ppo", "score", "heed-tiny")
]


def test_ppo_solves_them_all(whole: dict[str, Result]) -> None:
    assert outcomes(whole.values()) == dict.fromkeys(ALL, "passed")
    # Not a lucky look at the end, nor as slow as what has to find the answer by chance.
    assert all(128 < result.steps <= 2048 for result in whole.values())


@pytest.mark.parametrize(("name", "head", "kind"), REST)
def test_every_agent_head_and_kind_of_model_solves_them(
    name: str, head: str, kind: str, model: Callable[[str], LanguageModel]
) -> None:
    results = list(check_whole(name, head, kind, model))
    expected = {probe: "skipped" if probe in skipped(name, head) else "passed" for probe in ALL}
    assert outcomes(results) == expected, [result.detail for result in results if result.outcome == "failed"]
    assert all(result.detail for result in results)


def test_an_agent_of_plain_sb3_is_probed_too() -> None:
    def make(env: Any) -> Any:
        env = PromptVecEnv(env, load_language_model().encoder(max_tokens=84))
        kwargs = {"head": "linear"}
        return SB3PPO(
            LanguageActorCriticPolicy,
            env,
            n_steps=8,
            batch_size=64,
            learning_rate=3e-3,
            gamma=0.5,
            seed=0,
            policy_kwargs=kwargs,
        )

    results = outcomes(check_agent(make, probes=["value", "actions", "numbers"]))
    # Its encoder was made for words alone, so it does not read the list of actions either.
    assert results == {"value": "passed", "actions": "skipped", "numbers": "skipped"}


# -- broken agents ------------------------------------------------------------------------------------------------


def value_head_is_zero(agent: Any) -> None:
    for parameter in agent.policy.value_net.parameters():
        parameter.data.zero_()
        parameter.requires_grad_(False)


def value_head_is_detached(agent: Any) -> None:
    values = agent.policy._values
    agent.policy._values = lambda features: values(features).detach()


def no_value_loss(agent: Any) -> None:
    agent.vf_coef = 0.0


def observation_is_ignored(agent: Any) -> None:
    rewrite(agent, lambda words: {**words, "observation": ["nothing"] * len(words["observation"])})


def instruction_is_ignored(agent: Any) -> None:
    rewrite(agent, lambda words: {**words, "instruction": ["something"] * len(words["instruction"])})


def history_is_ignored(agent: Any) -> None:
    rewrite(agent, lambda words: {**words, "observation": [newest_observation(o) for o in words["observation"]]})


def numbers_are_zero(agent: Any) -> None:
    rewrite_auxiliary(agent, "numbers")


def picture_is_black(agent: Any) -> None:
    rewrite_auxiliary(agent, "image")


def rewrite(agent: Any, change: Callable[[Any], Any]) -> None:
    encoder = agent.observation_space.encoder
    encode = encoder.encode_words
    encoder.encode_words = lambda words, room=None: encode(change(words), room)


def rewrite_auxiliary(agent: Any, key: str) -> None:
    layout = agent.observation_space.encoder.layout
    pack = layout.pack

    def put_zeros(tokens: Any, words: Any) -> Any:
        return pack(tokens, {**words, key: [np.zeros_like(one) for one in words[key]]} if key in words else words)

    object.__setattr__(layout, "pack", put_zeros)  # which is frozen for all but those who break it


def advantages_are_turned(agent: Any) -> None:
    objective = agent.objective

    def turned(sample: Any) -> Any:
        batch = sample.batch._replace(advantages=-sample.batch.advantages)
        return objective(dataclasses.replace(sample, batch=batch))

    agent.objective = turned


def scores_ignore_the_prompt(agent: Any) -> None:
    read = agent.policy.read

    def blind(prompts: Any) -> Any:
        reading = read(prompts)
        return reading._replace(scores=reading.scores.mean(0, True).expand_as(reading.scores))

    agent.policy.read = blind


def discount_is_another(agent: Any) -> None:
    buffer = agent.replay_buffer if hasattr(agent, "replay_buffer") else agent.rollout_buffer
    for part in (buffer, *getattr(buffer, "_streams", ())):
        part.gamma = 1.0


def bootstraps_over_ends(agent: Any) -> None:
    sample = agent.replay_buffer.sample

    def wrong(*arguments: Any) -> Any:
        batch = sample(*arguments)
        return batch._replace(discounts=batch.discounts.clamp(min=GAMMA))

    agent.replay_buffer.sample = wrong


def actions_are_shuffled(agent: Any) -> None:
    texts = getattr(agent.observation_space.encoder, "action_texts", None)
    if texts is not None:
        numbers = texts.numbers_of
        texts.numbers_of = lambda words: numbers(words)[::-1]


BROKEN: list[tuple[str, Callable[[Any], None], str]] = [
    ("ppo", value_head_is_zero, "value"),
    ("ppo", observation_is_ignored, "observation"),
    ("ppo", advantages_are_turned, "action"),
    ("ppo", scores_ignore_the_prompt, "choice"),
    ("ppo", discount_is_another, "delay"),
]
"""Agent, what is broken, and the first probe that must fail. Daily."""
MORE_BROKEN: list[tuple[str, Callable[[Any], None], str]] = [
    ("ppo", instruction_is_ignored, "instruction"),
    ("ppo", actions_are_shuffled, "actions"),
    ("ppo", numbers_are_zero, "numbers"),
    ("ppo", picture_is_black, "picture"),
    ("ppo", history_is_ignored, "memory"),
    ("ppo", value_head_is_detached, "value"),
    ("ppo", no_value_loss, "value"),
    ("dqn", bootstraps_over_ends, "value"),
    ("grpo", advantages_are_turned, "action"),
    ("grpo", observation_is_ignored, "choice"),
    ("dqn", discount_is_another, "delay"),
    ("dqn", actions_are_shuffled, "actions"),
]


def assert_found_broken(result: Result) -> None:
    assert result.outcome == "failed"
    assert result.detail.startswith(PROBES[result.probe].broken)
    # What it has wrong, and no error of the part that broke it.
    assert "the right action" in result.detail or "but should be" in result.detail


@pytest.mark.parametrize(("name", "break_it", "probe"), BROKEN)
def test_what_is_broken_fails_its_probe(
    name: str, break_it: Callable[[Any], None], probe: str, whole: dict[str, Result]
) -> None:
    """In the steps in which a whole agent solves it."""
    [result] = check(name, maker(name, break_it), probes=[probe], steps=whole[probe].steps)
    assert_found_broken(result)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("name", "break_it", "probe"), [*BROKEN, *MORE_BROKEN])
def test_what_is_broken_fails_none_before(name: str, break_it: Callable[[Any], None], probe: str) -> None:
    results = list(check(name, maker(name, break_it), steps=4096, until_failure=True))
    assert [result.probe for result in results if result.outcome == "failed"] == [probe]
    assert_found_broken(results[-1])


# -- agents that cannot be probed ---------------------------------------------------------------------------------


def test_an_agent_that_raises_has_failed(caplog: pytest.LogCaptureFixture) -> None:
    def learn_nothing(agent: Any) -> None:
        def train() -> None:
            raise RuntimeError("no gradient")

        agent.train = train

    [result] = check("ppo", maker("ppo", learn_nothing), probes=["action"])
    assert result.outcome == "failed"
    assert "It raised RuntimeError: no gradient" in result.detail
    assert "in train" in caplog.text  # its traceback

    def make(env: LanguageVecEnv) -> Any:
        raise ValueError("no such thing")

    # A probe of values is none that an agent may refuse.
    for result in check_agent(make, probes=["value", "action"]):
        assert result.outcome == "failed"
        assert "cannot be made: ValueError: no such thing" in result.detail


def test_an_agent_that_reads_words_alone_is_not_asked_for_more() -> None:
    results = list(check("ppo", maker("ppo", words_only=True), probes=["numbers", "picture"]))
    assert outcomes(results) == {"numbers": "skipped", "picture": "skipped"}
    assert results[0].detail == "PPO reads the words alone here."


def test_a_probe_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="There is no probe 'sight': there are value, observation,"):
        next(check_agent(maker("ppo"), probes=["sight"]))
