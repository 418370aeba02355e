"""Episodes that do not end are given up after a number of steps, counted as failed, and told."""

from __future__ import annotations

import csv
from pathlib import Path

import gymnasium
import pytest
from gymnasium import spaces

from heed.agents import GRPO, PPO, Cloning, dagger
from heed.agents import grpo as grpo_module
from heed.agents.grpo import EndlessEpisodesError
from heed.envs import LanguageVecEnv
from heed.envs.demonstrations.demonstrate import MOST_STEPS, demonstrate, most_steps
from heed.envs.make import make_env
from heed.evaluation.playing import EpisodesError, read_episodes, run_episodes, uniform, write_episodes
from tests.endless import ENDLESS, Endless


@pytest.mark.parametrize(("ends_after", "finished"), [(None, False), (8, False), (7, True), (3, True)])
def test_an_episode_that_is_not_over_at_the_limit_has_failed(ends_after: int | None, finished: bool) -> None:
    choose = uniform(spaces.Discrete(2))
    episodes = run_episodes(lambda: Endless(ends_after), choose, [1, 2, 3], n_envs=2, max_episode_steps=7)
    assert [(one.finished, one.success) for one in episodes] == [(finished, finished)] * 3
    assert [one.length for one in episodes] == [min(ends_after or 7, 7)] * 3


def test_an_environment_that_names_a_longer_limit_is_given_it() -> None:
    assert most_steps(Endless()) == MOST_STEPS
    assert most_steps(Endless(), 12) == 12
    assert most_steps(gymnasium.make(ENDLESS, max_episode_steps=10 * MOST_STEPS)) == 10 * MOST_STEPS
    assert most_steps(make_env("BabyAI-GoToRedBallNoDists-v0")) == MOST_STEPS  # its own is shorter


def test_whether_an_episode_was_finished_is_kept_in_its_file(tmp_path: Path) -> None:
    episodes = run_episodes(Endless, uniform(spaces.Discrete(2)), [1, 2], max_episode_steps=3)
    write_episodes(tmp_path / "episodes.csv", episodes)
    assert read_episodes(tmp_path / "episodes.csv") == episodes
    with (tmp_path / "episodes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (tmp_path / "other.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [name for name in rows[0] if name != "finished"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(EpisodesError, match="holds no episodes of an evaluation: KeyError 'finished'"):
        read_episodes(tmp_path / "other.csv")


def test_demonstrations_that_do_not_end_are_given_up() -> None:
    outcomes = list(demonstrate(Endless, [1, 2, 3], n_envs=2, max_episode_steps=5))
    assert [(one.ended, one.given_up, len(one.demonstration)) for one in outcomes] == [
        (False, "not over after 5 steps", 5)
    ] * 3
    whole = list(demonstrate(lambda: Endless(5), [1, 2], n_envs=2, max_episode_steps=5))
    assert [(one.ended, one.given_up) for one in whole] == [(True, None)] * 2


def test_dagger_gives_up_what_does_not_end_and_learns_from_it() -> None:
    agent = PPO(env=LanguageVecEnv([Endless] * 2, seed=0), n_steps=4, batch_size=8, seed=0, device="cpu")
    settings = Cloning(epochs=1, seed=0)
    gathered = dagger(agent, Endless, settings=settings, rounds=1, episodes=4, n_envs=4, max_episode_steps=3)
    assert [(one.played, one.given_up) for one in gathered.rounds] == [(4, 4), (4, 4)]
    assert {len(one) for one in gathered.demonstrations} == {3}


def test_grpo_does_not_wait_for_groups_that_never_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpo_module, "MOST_STEPS", 20)
    env = LanguageVecEnv([Endless] * 2, seed=0, group_size=2)
    agent = GRPO(env=env, group_size=2, n_steps=4, seed=0, device="cpu")
    with pytest.raises(EndlessEpisodesError, match=r"none was whole after 20 steps of each environment.*--max-steps"):
        agent.learn(1000)
    long = LanguageVecEnv([lambda: gymnasium.make(ENDLESS, max_episode_steps=50)] * 2, group_size=2)
    assert grpo_module._endless(long) == 100
    ending = LanguageVecEnv([lambda: Endless(15)] * 2, seed=0, group_size=2)
    GRPO(env=ending, group_size=2, n_steps=4, batch_size=16, n_epochs=1, seed=0, device="cpu").learn(30)
