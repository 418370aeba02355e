"""A kit for test suites: one subclass with one method tests that an environment keeps the language contract.

    from heed.envs.testing import LanguageEnvTests

    class TestMyEnv(LanguageEnvTests):
        def make_env(self):
            return MyEnv()

pytest finds it as it stands; with unittest it is `class MyEnvTest(LanguageEnvTests, unittest.TestCase)`. Each rule is
a test with a name of its own. The environment is played once for all of them.
"""

from __future__ import annotations

import unittest
from collections.abc import Sequence
from typing import Any, ClassVar

import gymnasium

from heed.envs.checks import Check, Reader, check_env


class LanguageEnvTests:
    """Tests of the language contract. `make_env` is all there is to write; the attributes may be set."""

    episodes: ClassVar[int] = 5
    """How many to play with random actions, at least 2."""
    reward_episodes: ClassVar[int] = 20
    """Play up to so many, to see whether the reward can be reached."""
    seed: ClassVar[int] = 0
    """Of the first episode; the others follow."""
    max_steps: ClassVar[int] = 20_000
    """An episode that is longer counts as one that never ends."""
    reader: ClassVar[Reader | None] = None
    """How a language model reads; with it, tokens are tested too."""
    notes_fail: ClassVar[bool] = False
    """Whether a note fails a test, such as that the instruction never changes."""

    def make_env(self) -> gymnasium.Env[Any, Any]:
        """Return a new environment that speaks the language contract, if need be `VerbalizedEnv(MyVerbalizer(env))`."""
        raise NotImplementedError(f"{type(self).__name__} needs a method `make_env` that returns the environment.")

    def test_can_be_made(self) -> None:
        """It is a `gymnasium.Env` with its two spaces."""
        self._require("can be made")

    def test_gymnasiums_own_check(self) -> None:
        """It keeps Gymnasium's interface."""
        self._require("Gymnasium's own check")

    def test_observation_space(self) -> None:
        """Its observations have `instruction` and `observation`."""
        self._require("observation space")

    def test_actions(self) -> None:
        """Agents can act in it, and actions that can be counted have names."""
        self._require("actions")

    def test_reset_and_step(self) -> None:
        """They return what the spaces say, without an error."""
        self._require("reset and step")

    def test_same_seed_same_episode(self) -> None:
        """Chance comes from the seed alone."""
        self._require("same seed, same episode")

    def test_other_seeds_other_episodes(self) -> None:
        """Fails only with `notes_fail`: all episodes begin alike."""
        self._require("other seeds, other episodes")

    def test_actions_change(self) -> None:
        """Actions that change from state to state are listed, and what is not listed is refused."""
        self._require("actions change", optional=True)

    def test_words_follow_the_actions(self) -> None:
        """The observation says what an action has changed."""
        self._require("words follow the actions")

    def test_instructions_vary(self) -> None:
        """Fails only with `notes_fail`: the instruction never changes."""
        self._require("instructions vary")

    def test_tokens(self) -> None:
        """With a `reader`: it tells the actions apart, and reads prompts whole."""
        for name in ("action texts differ as tokens", "prompts fit"):
            self._require(name, optional=True)

    def test_episodes_end(self) -> None:
        """Every episode comes to an end."""
        self._require("episodes end")

    def test_one_kind_of_end(self) -> None:
        """An episode terminates or is truncated."""
        self._require("one kind of end")

    def test_success_is_told(self) -> None:
        """`info["is_success"]` is there at the end."""
        self._require("success is told")

    def test_reward_can_be_reached(self) -> None:
        """Fails only with `notes_fail`: random actions never succeed."""
        self._require("reward can be reached")

    def test_expert(self) -> None:
        """Its expert, if it has one, names actions that there are, and the same when asked again."""
        self._require("expert", optional=True)

    def test_fulfilled_instructions(self) -> None:
        """What it says of other instructions, if it does, has the right form."""
        for name in (
            "fulfilled instructions",
            "possible instructions",
            "possible instructions are told when done",
            "impossible instructions",
        ):
            self._require(name, optional=True)

    def _require(self, name: str, *, optional: bool = False) -> None:
        """Fail where the check `name` did, or skip where an earlier one has left it out."""
        checks = self._checks()
        found = [check for check in checks if check.name == name]
        if not found:
            broken = [check.name for check in checks if not check.passed]
            if broken:
                raise unittest.SkipTest(f"not looked at, because of what is wrong with: {', '.join(broken)}")
            if optional:
                return
            raise AssertionError(f"There is no check {name!r}.")
        for check in found:
            if not check.passed:
                raise AssertionError(f"{check.name}: {check.detail}. {check.fix}")
            if check.note and self.notes_fail:
                raise AssertionError(f"{check.name}: {check.detail}. {check.note}")

    def _checks(self) -> Sequence[Check]:
        """Play the environment, once for a class."""
        own = type(self).__dict__.get("_found")
        if own is None:
            own = check_env(
                self.make_env,
                episodes=self.episodes,
                seed=self.seed,
                max_steps=self.max_steps,
                reward_episodes=self.reward_episodes,
                reader=self.reader,
            )
            type(self)._found = own  # type: ignore[attr-defined]
        checks: Sequence[Check] = own
        return checks
