"""Ways to choose actions: probabilities and bounds by hand, and Deep Sea, which chance does not solve."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from heed.agents import DQN, QLearning
from heed.agents.exploration import (
    STRATEGIES,
    UCB,
    Boltzmann,
    EpsilonGreedy,
    Exploration,
    Schedule,
    Thompson,
    exploration_from_json,
)
from heed.agents.exploration.counts import Counts, fingerprint
from heed.agents.exploration.ensemble import ValueEnsemble
from heed.agents.exploration.features import TextFeatures, word_ids
from heed.agents.exploration.strategy import greedy_actions, greedy_probabilities
from heed.envs import LanguageVecEnv, make
from heed.policies.modalities.modality import Modality
from heed.policies.prompts.layout import Image, Numbers, PromptLayout
from tests.faulty import Broken
from tests.one_hot import OneHotPolicy
from tests.sampling import sampled

RNG = np.random.default_rng


def started(strategy: Any, *, n_actions: int = 3, n_envs: int = 1) -> Any:
    strategy.begin(n_actions=n_actions, n_envs=n_envs, generator=RNG(0))
    return strategy


# -- schedules and choices, by hand --------------------------------------------------------------------------------


def test_schedules_go_from_start_to_end_and_stay() -> None:
    linear = Schedule(start=1.0, end=0.2, fraction=0.5)
    assert [linear(left) for left in (1.0, 0.75, 0.5, 0.0)] == pytest.approx([1.0, 0.6, 0.2, 0.2])
    exponential = Schedule(start=1.0, end=0.01, fraction=1.0, shape="exponential")
    assert [exponential(left) for left in (1.0, 0.5, 0.0)] == pytest.approx([1.0, 0.1, 0.01])
    assert Schedule.constant(0.3)(0.123) == 0.3


@pytest.mark.parametrize(
    ("make_it", "sentence"),
    [
        (lambda: Schedule(start=-1.0, end=0.0), "must not be negative"),
        (lambda: Schedule(start=1.0, end=0.0, fraction=0.0), "fraction between 0 and 1"),
        (lambda: Schedule(start=1.0, end=0.0, shape="exponential"), "never reaches 0"),
        (lambda: EpsilonGreedy(schedule=Schedule.constant(1.1)), "Epsilon is a probability"),
        (lambda: EpsilonGreedy(temperature=-0.1), "temperature is -0.1"),
        (lambda: UCB(power=0.0), "positive power"),
        (lambda: Thompson(heads=0), "at least one head"),
        (lambda: Thompson(mask_probability=0.0), "above 0"),
    ],
)
def test_what_cannot_be_is_refused(make_it: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make_it()


def test_epsilon_greedy_shares_epsilon_among_all_and_the_rest_among_the_best() -> None:
    values = np.array([[[1.0, 3.0, 2.0], [5.0, 5.0, 0.0]]])
    probabilities = EpsilonGreedy().probabilities(values, [], 0.3)
    np.testing.assert_allclose(probabilities, [[0.1, 0.8, 0.1], [0.45, 0.45, 0.1]])
    drawn = EpsilonGreedy().sample(values.repeat(20_000, axis=1), [], 0.3, RNG(1)).reshape(2, 20_000)
    for actions, expected in zip(drawn, probabilities, strict=True):
        np.testing.assert_allclose(np.bincount(actions, minlength=3) / 20_000, expected, atol=0.01)


def test_epsilon_greedy_with_a_temperature_shares_the_rest_by_the_softmax() -> None:
    values = np.array([[[0.0, np.log(2.0) / 10, np.log(5.0) / 10]]])
    probabilities = EpsilonGreedy(temperature=0.1).probabilities(values, [], 0.3)
    np.testing.assert_allclose(probabilities, [[0.1 + 0.7 / 8, 0.1 + 1.4 / 8, 0.1 + 3.5 / 8]])
    drawn = EpsilonGreedy(temperature=0.1).sample(values.repeat(20_000, axis=1), [], 0.3, RNG(1))
    np.testing.assert_allclose(np.bincount(drawn, minlength=3) / 20_000, probabilities[0], atol=0.01)


def test_boltzmann_is_the_softmax_of_values_over_the_temperature() -> None:
    values = np.array([[[0.0, np.log(2.0), np.log(5.0)]]])
    np.testing.assert_allclose(Boltzmann().probabilities(values, [], 1.0), [[1 / 8, 2 / 8, 5 / 8]])
    # At half the temperature the odds are squared.
    np.testing.assert_allclose(Boltzmann().probabilities(values, [], 0.5), [[1 / 30, 4 / 30, 25 / 30]])
    np.testing.assert_allclose(Boltzmann().probabilities(values, [], 0.0), [[0.0, 0.0, 1.0]])
    np.testing.assert_allclose(Boltzmann().probabilities(values * 1e6, [], 1.0), [[0.0, 0.0, 1.0]])  # no overflow


def test_ucb_takes_the_highest_bound() -> None:
    ucb = started(UCB(power=0.5))
    for action, times in enumerate((0, 3, 8)):
        ucb.acted([7] * times, [action] * times)
    # c / sqrt(n + 1) is 2/1, 2/2, 2/3.
    np.testing.assert_allclose(ucb.bonus([7], 2.0), [[2.0, 1.0, 2 / 3]])
    values = np.array([[[0.0, 1.5, 1.5]]])
    np.testing.assert_allclose(ucb.probabilities(values, [7], 2.0), [[0.0, 1.0, 0.0]])  # 2, 2.5, 2.17
    np.testing.assert_allclose(ucb.probabilities(values, [7], 0.0), [[0.0, 0.5, 0.5]])  # without bonus the wrong way
    np.testing.assert_allclose(ucb.probabilities(values, [8], 2.0), [[0.0, 0.5, 0.5]])  # another state, no counts
    np.testing.assert_allclose(started(UCB()).bonus([7], 2.0), [[2.0] * 3])  # each begins without counts


def test_thompson_follows_one_value_function_through_an_episode() -> None:
    thompson = started(Thompson(heads=3), n_envs=4)
    values = np.zeros((3, 4, 3))
    for head in range(3):
        values[head, :, head] = 1.0  # each prefers the action of its own number
    followed = thompson.act(values, [], 0.0, RNG(0))
    for _ in range(5):
        thompson.ended(np.array([False, True, False, False]), RNG(3))
        now = thompson.act(values, [], 0.0, RNG(0))
        assert now[[0, 2, 3]].tolist() == followed[[0, 2, 3]].tolist()
    changed = set()
    generator = RNG(5)
    for _ in range(20):
        thompson.ended(np.array([True, False, False, False]), generator)
        changed.add(int(thompson.act(values, [], 0.0, RNG(0))[0]))
    assert changed == {0, 1, 2}
    np.testing.assert_allclose(thompson.probabilities(values, [], 0.0), np.full((4, 3), 1 / 3))
    np.testing.assert_allclose(thompson.probabilities(values[:2].repeat(2, 0), [], 0.4)[0], [13 / 30, 13 / 30, 4 / 30])


def test_bootstrap_masks_choose_who_learns() -> None:
    thompson = Thompson(heads=4, mask_probability=0.25)
    masks = thompson.masks(10_000, RNG(0))
    assert masks is not None
    assert masks.shape == (4, 10_000)
    np.testing.assert_allclose(masks.mean(axis=1), 0.25, atol=0.02)
    assert np.asarray(np.corrcoef(masks))[0, 1] == pytest.approx(0.0, abs=0.05)
    assert Thompson(heads=4).masks(5, RNG(0)) is None

    agent = QLearning(make("FrozenLake-v1", seed=0), exploration=Thompson(heads=3, prior_scale=1.0), seed=0)
    row = agent.table.row(("i", "o"))
    before = agent.table.heads[:, row, 2].copy()
    assert len(set(before)) == 3  # the priors differ
    agent._update(row, 2, 1.0, None, 0.5, np.array([True, False, True]))
    expected = [(before[0] + 1) / 2, before[1], (before[2] + 1) / 2]
    np.testing.assert_allclose(agent.table.heads[:, row, 2], expected)
    assert agent.table.values[row, 2] == 0.5


def test_ties_are_broken_by_the_generator_and_nothing_is_drawn_without_one() -> None:
    values = np.array([[1.0, 1.0, 0.0]] * 1000)
    assert np.bincount(greedy_actions(values, RNG(0))).tolist() == pytest.approx([500, 500], abs=60)
    generator = RNG(0)
    assert greedy_actions(np.array([[1.0, 2.0, 0.0]]), generator).tolist() == [1]
    assert generator.random() == RNG(0).random()
    np.testing.assert_allclose(greedy_probabilities(np.array([[1.0, 1.0, 0.0]])), [[0.5, 0.5, 0.0]])


def test_counts_count_and_come_back() -> None:
    counts = Counts(2)
    states = [fingerprint(str(number).encode()) for number in range(100)]
    assert len(set(states)) == 100
    counts.add(states, [number % 2 for number in range(100)])
    counts.add(states[:1], [0])
    assert counts.of([states[0], states[1], fingerprint(b"other")]).tolist() == [[2, 0], [0, 1], [0, 0]]
    copy = Counts(2)
    copy.set_state(counts.get_state())
    copy.add(states[:1], [1])
    assert copy.of(states[:2]).tolist() == [[2, 1], [0, 1]]
    assert len(copy) == 100


def test_features_are_whitened_and_know_the_order_of_words() -> None:
    features = TextFeatures(width=64, generator=torch.Generator().manual_seed(0))
    texts = [f"row {row}; column {column}" for row in range(6) for column in range(6)]
    encoded = features(word_ids(texts), observe=True)
    torch.testing.assert_close(encoded.mean(dim=0), torch.zeros(64), atol=0.05, rtol=0.0)
    torch.testing.assert_close(encoded.std(dim=0), torch.ones(64), atol=0.1, rtol=0.0)
    distances = torch.cdist(encoded, encoded) + 1e9 * torch.eye(36)
    assert distances.min() > 1.0  # all differ, "row 2; column 3" and "row 3; column 2" among them
    # Padding changes nothing, nor do the texts that stand beside.
    torch.testing.assert_close(features(word_ids([texts[3], "a much longer text than the other one"]))[0], encoded[3])
    in_parts = TextFeatures(width=64, generator=torch.Generator().manual_seed(0))
    for part in range(0, 36, 9):
        in_parts(word_ids(texts[part : part + 9]), observe=True)
    torch.testing.assert_close(in_parts(word_ids(texts)), encoded)


MODALITIES = [(), (Numbers(3),), (Image(5, 6, 3),), (Numbers(2), Image(40, 3, 1))]


def rows_of(layout: PromptLayout, count: int, seed: int = 0) -> torch.Tensor:
    """Return rows of prompts of all lengths; some of their pictures are white, so that their integers are -1."""
    rng = RNG(seed)
    columns = {modality.key: modality.columns for modality in layout.modalities}
    count_of_numbers = columns.get("numbers", 0)
    tokens = rng.integers(0, 50, size=(count, layout.tokens), dtype=np.int32)
    tokens[np.arange(layout.tokens) >= rng.integers(1, layout.tokens + 1, size=(count, 1))] = -1
    numbers = rng.normal(size=(count, count_of_numbers)).astype(np.float32) * [1e-3, 1.0, 1e3][:count_of_numbers]
    pixels = rng.integers(0, 256, size=(count, 4 * columns.get("image", 0)), dtype=np.uint8)
    pixels[::3] = 255
    parts = [tokens, numbers.astype(np.float32).view(np.int32), pixels.view(np.int32)]
    return torch.from_numpy(np.concatenate(parts, axis=1))


@pytest.mark.parametrize("modalities", MODALITIES, ids=["words", "numbers", "picture", "both"])
def test_what_the_ensemble_says_of_a_prompt_hangs_on_all_of_it_and_on_no_other(
    modalities: tuple[Modality, ...],
) -> None:
    def made(tokens: int) -> ValueEnsemble:
        layout = PromptLayout(tokens, modalities)
        return ValueEnsemble(heads=2, n_actions=3, layout=layout, prior_scale=1.0, seed=0)

    numbers = sum(one.columns for one in modalities if one.key == "numbers")
    ensemble, rows = made(6), rows_of(PromptLayout(6, modalities), 24)
    ensemble.observe(rows)
    with torch.no_grad():
        values = ensemble(rows)
        order = torch.from_numpy(RNG(1).permutation(len(rows)))
        torch.testing.assert_close(ensemble(rows[order]), values[:, order], rtol=1e-4, atol=1e-5)
        for some in (slice(0, 1), slice(5, 6), slice(3, 11)):  # whoever stands beside it
            torch.testing.assert_close(ensemble(rows[some]), values[:, some], rtol=1e-4, atol=1e-5)
        wider = made(11)  # as where longer prompts are allowed
        padded = torch.cat([rows[:, :6], torch.full((24, 5), -1, dtype=rows.dtype), rows[:, 6:]], dim=1)
        wider.observe(padded)
        torch.testing.assert_close(wider(padded), values, rtol=1e-4, atol=1e-5)
        for column in range(rows.shape[1]):  # every token that is there, every number, every part of the picture
            changed = rows.clone()
            there = torch.nonzero(rows[:, column] != -1).flatten() if column < 6 else torch.arange(24)
            other = torch.tensor(0.25).view(torch.int32) if 6 <= column < 6 + numbers else torch.tensor(7)
            changed[:, column] = torch.where(rows[:, column] == other, 1, other).to(rows.dtype)
            moved = (ensemble(changed) - values).abs().amax(dim=(0, 2))
            assert (moved[there] > 1e-6).all(), column


@pytest.mark.parametrize("strategy", [UCB(), Thompson()])
def test_auxiliary_numbers_count_where_an_agent_explores(strategy: Any) -> None:
    env = LanguageVecEnv([lambda: Broken("", frozenset())] * 2, seed=0)
    options: dict[str, Any] = {"policy_kwargs": {"head": "linear", "train_layers": 0, "max_prompt_tokens": 32}}
    agent = DQN(env=env, exploration=strategy, learning_starts=4, n_steps=1, seed=0, **options).learn(16)
    words = {"instruction": ["say yes"] * 2, "observation": ["a longer step", "a longer step"]}
    prompts = agent.language_policy.encoder({**words, "numbers": np.array([[1, 1], [1, 3]], dtype=np.float32)})
    values = agent.explorer.values(torch.from_numpy(prompts))
    assert np.abs(values[:, 0] - values[:, 1]).max() > 1e-3


def test_the_ensemble_learns_the_hand_worked_target_and_keeps_its_priors_apart() -> None:
    layout = PromptLayout(4)
    ensemble = ValueEnsemble(heads=2, n_actions=2, layout=layout, prior_scale=1.0, seed=0, learning_rate=1e-2)
    prompts = torch.tensor([[3, 4, 5, -1], [3, 4, 6, -1], [3, 9, 9, 9]])
    ensemble.observe(prompts)
    before = ensemble(prompts)
    assert (before[0] - before[1]).abs().min() > 1e-4
    rewards, actions = torch.tensor([[1.0], [0.5]]), torch.tensor([[0], [1]])
    bonus = torch.tensor([[0.0, 0.0], [2.0, 1.0]])
    next_prompts, discounts = prompts[[2, 2]], torch.tensor([[0.0], [0.5]])
    with torch.no_grad():
        best = (ensemble(prompts[2:]) + bonus[1]).amax(dim=2)[:, 0]
    ensemble.target_rate = 0.0  # the target stands still, so what is learned towards is known
    masks = torch.tensor([[True, True], [False, True]])
    for _ in range(400):
        ensemble.update(prompts[:2], actions, rewards, next_prompts, discounts, bonus, masks)
    after = ensemble(prompts).detach()
    # The episode is over after the first; the second is worth 0.5 + 0.5 (Q + bonus) of the best action there.
    assert float(after[0, 0, 0]) == pytest.approx(1.0, abs=0.02)
    torch.testing.assert_close(after[:, 1, 1], 0.5 + 0.5 * best, atol=0.02, rtol=0.0)
    assert abs(float(after[1, 0, 0]) - 1.0) > 0.02  # the second head was not to learn it


# -- what they are for ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", sampled([0, 1, 2], 1))
def test_ucb_and_thompson_find_what_epsilon_greedy_and_boltzmann_miss(seed: int) -> None:
    """Of 1024 sequences of levers one leads to the treasure; 500 dives by chance find it four times in ten at most."""
    found = {}
    strategies = [EpsilonGreedy(), Boltzmann(schedule=Schedule(start=0.1, end=0.01)), UCB(), Thompson()]
    for strategy in strategies:
        env = make("Heed/DeepSea-v0", seed=seed, size=10)
        agent = QLearning(env, exploration=strategy, gamma=0.99, stats_window_size=50, seed=seed)
        agent.learn(5_000)
        found[strategy.name] = float(np.mean(agent.ep_success_buffer or []))
    assert found["ucb"] > 0.85
    assert found["thompson"] > 0.85
    assert found["epsilon-greedy"] < 0.1
    assert found["boltzmann"] < 0.1


def test_boltzmann_keeps_away_from_the_cliff_where_epsilon_greedy_falls() -> None:
    returns = {}
    for strategy in (EpsilonGreedy(schedule=Schedule.constant(0.1)), Boltzmann(schedule=Schedule.constant(0.5))):
        agent = QLearning(make("CliffWalking-v1", seed=0), exploration=strategy, gamma=1.0, seed=0)
        agent.learn(8_000)
        returns[strategy.name] = np.mean([episode["r"] for episode in agent.ep_info_buffer or []])
    assert returns["boltzmann"] > -20  # the shortest way takes 13 steps
    assert returns["epsilon-greedy"] < -35


def dqn(strategy: Exploration, *, seed: int = 0, size: int = 8, **options: Any) -> DQN:
    arguments: dict[str, Any] = {
        "learning_rate": 0.05,
        "learning_starts": 100,
        "batch_size": 128,
        "gradient_steps": 2,
        "n_steps": 1,
        "target_update_interval": 100,
        "gamma": 0.99,
        "stats_window_size": 50,
        **options,
    }
    env = make("Heed/DeepSea-v0", n_envs=8, seed=seed, size=size)
    return DQN(OneHotPolicy, env, exploration=strategy, seed=seed, **arguments)


@pytest.mark.parametrize(
    "strategy",
    [pytest.param(UCB(), id="ucb", marks=pytest.mark.exhaustive), pytest.param(Thompson(), id="thompson")],
)
def test_dqn_finds_with_them_what_it_would_miss(strategy: Exploration) -> None:
    """Of 512 sequences one; chance would come upon it in some of the 440 dives, but not come back to it so soon."""
    agent = dqn(strategy, seed=1, size=9)
    agent.learn(3_200)
    assert np.mean(agent.ep_success_buffer or []) > 0.7


@pytest.mark.exhaustive
def test_dqn_misses_it_without() -> None:
    """So would a strategy that is broken, in the test above."""
    agent = dqn(EpsilonGreedy(), seed=1, size=9)
    agent.learn(4_000)
    assert np.mean(agent.ep_success_buffer or []) < 0.3


@pytest.mark.parametrize("name", list(STRATEGIES))
def test_strategies_come_back_from_json_and_are_not_shared(name: str) -> None:
    strategy = STRATEGIES[name](schedule=Schedule(start=0.5, end=0.25, fraction=0.75))
    assert exploration_from_json(strategy.as_json()) == strategy
    agents = [QLearning(make("FrozenLake-v1", seed=0), exploration=strategy, seed=seed) for seed in (0, 0, 1)]
    for agent in agents:
        agent.learn(200)
        assert agent.exploration is not strategy
    np.testing.assert_array_equal(agents[0].table.values, agents[1].table.values)
    assert agents[0].table.values.shape != agents[2].table.values.shape or not np.array_equal(
        agents[0].table.values, agents[2].table.values
    )
