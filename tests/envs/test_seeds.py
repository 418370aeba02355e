"""Seeds of episodes: different by construction, of 32 bits, and those of an evaluation in no training."""

from __future__ import annotations

import numpy as np
import pytest

from heed.envs.demonstrations.demonstrations import PARTS, demonstration_seeds
from heed.envs.hold_out import OnlyWithPhrases, WithoutPhrases
from heed.envs.seeds import (
    DEMONSTRATIONS,
    EVALUATIONS,
    LONGEST,
    SHARE_BITS,
    _permuted,
    episode_seed,
    seed_drawn_anew,
    sequence_of_seeds,
)
from heed.evaluation.playing import held_out_seeds
from heed.evaluation.suites import Suite, SuiteError
from tests.buttons import Buttons


def test_a_sequence_is_a_permutation() -> None:
    everything = _permuted(np.arange(LONGEST, dtype=np.uint32), (2**70, 3))
    seen = np.zeros(LONGEST, dtype=bool)
    seen[everything] = True  # an index beyond the end raises
    assert seen.all()
    # As a random one: neighbours are unrelated, and few numbers stay where they are (one, on average).
    assert abs(np.corrcoef(everything[: 2**18], everything[1 : 2**18 + 1])[0, 1]) < 0.01
    assert np.sum(everything == np.arange(LONGEST)) < 10


def test_no_seed_comes_twice_and_none_is_of_another_use() -> None:
    played, recorded = held_out_seeds(3, 300_000), demonstration_seeds(3, 100_000)
    gathered = demonstration_seeds(3, 100_000, part=1)
    assert len(set(played)) == len(played)  # as draws of 32 bits, some 10 would be there twice
    assert len({*recorded, *gathered}) == 200_000
    trained = {episode_seed(3, index, episode) for index in range(40) for episode in range(500)}
    for one, other in ((played, recorded), (played, gathered), (played, trained), (recorded, trained)):
        assert not set(one) & set(other)
    for seeds in (played, recorded, gathered, trained):
        assert 0 <= min(seeds) <= max(seeds) < 2**32
        np.random.RandomState(max(seeds))  # what older environments seed
    assert {seed >> SHARE_BITS for seed in trained}.isdisjoint((DEMONSTRATIONS, EVALUATIONS))


def test_longer_sequences_begin_alike_and_other_seeds_give_others() -> None:
    for seeds in (held_out_seeds, demonstration_seeds):
        assert seeds(5, 40) == seeds(5, 4000)[:40]
        assert len({*seeds(5, 40), *seeds(6, 40)}) == 80
    assert [seed % LONGEST for seed in held_out_seeds(5, 4)] != [seed % LONGEST for seed in demonstration_seeds(5, 4)]


def test_training_seeds_stay_what_they_were_but_where_they_were_of_another_use() -> None:
    def before(*numbers: int) -> int:
        return int(np.random.SeedSequence(numbers[0], spawn_key=numbers[1:]).generate_state(1)[0])

    places = [(1, index, episode) for index in range(8) for episode in range(500)]
    changed = [place for place in places if episode_seed(*place) != before(*place)]
    assert 0 < len(changed) < 70  # one in 128
    assert all(before(*place) >> SHARE_BITS >= DEMONSTRATIONS for place in changed)


def test_an_episode_that_is_drawn_anew_stays_of_the_same_use() -> None:
    class Seeded(Buttons):
        seeds: list[int]

        def reset(self, *, seed: int | None = None, options: object = None) -> object:  # type: ignore[override]
            self.seeds.append(int(seed or 0))
            return super().reset(seed=seed)

    uses = {EVALUATIONS: held_out_seeds(0, 30), DEMONSTRATIONS: demonstration_seeds(0, 30), 0: list(range(30))}
    for use, seeds in uses.items():
        for kind in (WithoutPhrases, OnlyWithPhrases):
            env = Seeded()
            env.seeds = []
            for seed in seeds:
                kind(env, ["red"]).reset(seed=seed)
            assert len(env.seeds) > 31
            if use:
                assert {seed >> SHARE_BITS for seed in env.seeds} == {use}
            else:
                assert max(seed >> SHARE_BITS for seed in env.seeds) < DEMONSTRATIONS
    assert seed_drawn_anew(7, 1, 2) == seed_drawn_anew(7, 1, 2) != seed_drawn_anew(7, 1, 3)
    assert max(seed_drawn_anew(2**40, draw) >> SHARE_BITS for draw in range(1000)) < DEMONSTRATIONS


def test_more_than_there_are_is_refused_before_the_work() -> None:
    assert len(sequence_of_seeds(EVALUATIONS, (0,), LONGEST - 3, 3)) == 3
    with pytest.raises(ValueError, match=f"{LONGEST} different episodes"):
        held_out_seeds(0, LONGEST + 1)
    with pytest.raises(ValueError, match="record the others with another seed"):
        demonstration_seeds(0, LONGEST // PARTS + 1)
    with pytest.raises(ValueError, match="parts 0 to 15"):
        demonstration_seeds(0, 1, part=16)
    with pytest.raises(ValueError, match="at least 0"):
        held_out_seeds(-1, 3)
    with pytest.raises(SuiteError, match=f"a seed has {LONGEST} at most"):
        Suite(name="long", environments=("CartPole-v1",), episodes=LONGEST + 1)
