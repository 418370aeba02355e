"""Several instructions for one environment, each with its own success: `Instructions`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np

from heed.envs.contract import ContractError, ExpertError, expert_of, method_of, number_of, require_language_env
from heed.envs.hold_out import HoldOutError, hold_out_of
from heed.envs.wrappers.shown import generator_of
from heed.envs.wrappers.task import Moment, Task, Text
from heed.envs.wrappers.weighted_draw import DrawsByWeight, WeightedDraw


class Instructions(DrawsByWeight, gymnasium.Wrapper[Any, Any, Any, Any]):
    """Gives, in each episode, one of several tasks in the same environment, drawn by the episode's seed.

    An episode ends when the task is done, or when the environment ends it. `info["task"]` names the task on
    every step; `info["is_success"]` is of the task.

    What the tasks know also tells what could be done instead and what was done beside (`possible_instructions`,
    `impossible_instructions`, `fulfilled_instructions`), so an evaluation's *swapped* instructions, hindsight and
    `ChangingInstruction` work. That is of tasks that end an episode with their success and bring nothing before, since
    only these can stand for one another.

    Args:
        env: a language environment.
        tasks: differently named.

    Raises:
        ContractError: if `env` breaks the static part of the language contract.
        ValueError: if there is no task, or two have the same name.
    """

    draws = "task"
    """What is drawn for each episode, and the key in `info` that names it."""

    def __init__(self, env: gymnasium.Env[Any, Any], tasks: Sequence[Task]):
        require_language_env(env)
        super().__init__(env)
        self.tasks = tuple(tasks)
        names = [task.name for task in self.tasks]
        if not names:
            raise ValueError("There is no task to give.")
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"Two tasks are called {name!r}: give one another `name`, or a task several `texts`.")
        for task in self.tasks:
            for name in task.first:
                if name not in names or name == task.name:
                    raise ValueError(f"{task.name!r} says that {name!r} comes first, but no other task is called so.")
        self._hold_out = hold_out_of(env)
        self._draw = WeightedDraw(names, [task.weight for task in self.tasks])
        self._generator = np.random.default_rng()
        self._task = self.tasks[0]
        self._possible: tuple[bool, ...] = ()
        self._texts: tuple[str | None, ...] = ()  # of every task, as this episode says it; None where nothing is to say
        self._instruction: str | None = None
        self._moment: Moment | None = None
        self._beginning: Moment | None = None
        self._told: set[str] = set()
        self._inner_expert = expert_of(env)
        if self._inner_expert is not None:
            self.expert_action = self._advise
        if method_of(env, "fulfilled_parts") is not None:
            self.fulfilled_parts = self._parts_of_the_environments

    @property
    def task(self) -> Task:
        """The running episode's task."""
        return self._task

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start an episode and draw a task that is possible in it, and one of its texts that is not held out.

        Raises:
            ContractError: if none is possible.
            HoldOutError: if all that are possible can only be said in words that are held out.
        """
        observation, info = self.env.reset(seed=seed, options=options)
        if seed is not None:
            self._generator = generator_of(seed, "instructions")
        moment = self._beginning = self._moment_of(observation, 0.0, False, False, info, number=0)
        self._possible = tuple(task.possible is None or bool(task.possible(moment)) for task in self.tasks)
        if not any(self._possible):
            raise ContractError(
                f"None of the tasks {list(self.drawn_names)} is possible in this episode (seed {seed}): "
                f"{observation['observation']!r}. Give a task that always is."
            )
        # Texts are drawn for all tasks, whichever is given: what is drawn for one does not depend on the weights.
        places = self._generator.random(len(self.tasks))
        self._texts = tuple(
            self._text(task, place, moment, may)
            for task, place, may in zip(self.tasks, places, self._possible, strict=True)
        )
        if self._hold_out:
            sayable = [
                words is not None or not task.options for task, words in zip(self.tasks, self._texts, strict=True)
            ]
            self._possible = tuple(may and can for may, can in zip(self._possible, sayable, strict=True))
            if not any(self._possible):
                raise HoldOutError(
                    f"Of the tasks {list(self.drawn_names)}, all that are possible in this episode (seed {seed}) name "
                    f"{' or '.join(self._hold_out.phrases)}, which is held out. Give a task that always can be given."
                )
        index = self._draw.draw(self._generator, self._possible)
        self._task = self.tasks[index]
        self._instruction = self._texts[index] if self._task.options else None
        self._told = set()
        return self._see(observation), {**info, self.draws: self._task.name}

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Act, and judge the step by the task."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        assert self._moment is not None, "an episode begins with a reset"
        number = self._moment.number + 1
        terminated, truncated = bool(terminated), bool(truncated and not terminated)
        moment = self._moment_of(observation, number_of(reward), terminated, truncated, info, number=number)
        over, task = terminated or truncated, self._task
        if task.success is None:
            succeeded = bool(over and info.get("is_success", False))
        else:
            succeeded = bool((over or not task.at_end) and task.success(moment))
            if succeeded and not task.at_end:
                terminated, truncated = True, False
        reward = task.reward_for(moment, succeeded)
        info = {**info, self.draws: task.name}  # a dict of ours, which may be written into
        if (terminated or truncated) and (task.success is not None or "is_success" in info):  # else a check finds it
            info["is_success"] = succeeded
        return self._see(observation), reward, terminated, truncated, info

    def fulfilled_instructions(self) -> Mapping[str, float]:
        """Return what the last step did of other tasks for the first time, each with its reward.

        Where the environment's own task is given, in whatever words, it is asked itself, if it tells.
        """
        if self._task.is_the_environments:
            inner = method_of(self.env, "fulfilled_instructions")
            told: Mapping[str, float] = inner() if inner is not None else {}
            return told
        if self._moment is None or self._moment.number == 0 or self._task.success_reward is None:
            return {}
        found = {}
        for task, words in self._comparable():
            if words not in self._told and task.success is not None and task.success(self._moment):
                assert task.success_reward is not None
                found[words] = task.success_reward
        self._told |= set(found)
        return found

    def possible_instructions(self) -> tuple[str, ...]:
        """Return how this episode would say the other tasks that can be done in it in place of its own, sorted.

        Left out are those that are done from the start, that have to be done on the way (`Task.first`), or that the own
        one has to be done on the way to.
        """
        if self._task.is_the_environments:
            inner = method_of(self.env, "possible_instructions")
            listed: tuple[str, ...] = inner() if inner is not None else ()
            return listed
        if self._task.success_reward is None:
            return ()
        others = {words for task, words in self._comparable() if self._can_stand_for_the_drawn(task)}
        return tuple(sorted(others - {self._instruction}))

    def _can_stand_for_the_drawn(self, task: Task) -> bool:
        """Say whether a task can be done in this episode before the drawn one is, and is not done from the start."""
        if task is self._task or task.name in self._needed_for(self._task) or self._task.name in self._needed_for(task):
            return False
        assert task.success is not None
        assert self._beginning is not None
        try:
            return not task.success(self._beginning)
        except Exception:  # it looks at what only a step has, such as a key of its info: no step has done it yet
            return True

    def _needed_for(self, task: Task) -> set[str]:
        """Return the names of all tasks that come before one, before those that come before it, and so on."""
        by_name = {other.name: other for other in self.tasks}
        found: set[str] = set()
        waiting = list(task.first)
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += by_name[name].first
        return found

    def impossible_instructions(self) -> tuple[str, ...]:
        """Return the words of tasks that cannot be done in this episode, sorted; not of those that a function says."""
        if self._task.is_the_environments:
            inner = method_of(self.env, "impossible_instructions")
            listed: tuple[str, ...] = inner() if inner is not None else ()
            return listed
        pairs = zip(self._texts, self._possible, strict=True)
        return tuple(sorted({words for words, may in pairs if words is not None and not may}))

    def _parts_of_the_environments(self) -> tuple[str, ...]:
        """Return which parts of the environment's own instruction are done, where that is what was given."""
        parts: tuple[str, ...] = method_of(self.env, "fulfilled_parts")() if self._task.is_the_environments else ()
        return parts

    def _comparable(self) -> list[tuple[Task, str]]:
        """Return the possible tasks that can stand for one another, each with its words."""
        return [
            (task, words)
            for task, words, may in zip(self.tasks, self._texts, self._possible, strict=True)
            if may and words is not None and task.success_reward is not None
        ]

    def _text(self, task: Task, place: float, moment: Moment, may: bool) -> str | None:
        """Return how an episode says a task: the text at a `place` between 0 and 1 among those that may be said."""
        options: Sequence[Text] = task.options
        if self._hold_out:
            said = [self._said(option, moment, may) for option in options]
            options = self._hold_out.allowed(words for words in said if words is not None)
        return self._said(options[int(place * len(options))], moment, may) if options else None

    def _said(self, text: Text, moment: Moment, may: bool) -> str | None:
        if isinstance(text, str):
            return text
        return str(text(moment)) if may else None  # a function may look for what is not there

    def _moment_of(
        self, observation: Any, reward: float, terminated: bool, truncated: bool, info: dict[str, Any], *, number: int
    ) -> Moment:
        self._moment = Moment(
            observation=observation,
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            info=info,
            number=number,
            env=self.env.unwrapped,
        )
        return self._moment

    def _see(self, observation: dict[str, Any]) -> dict[str, Any]:
        return observation if self._instruction is None else {**observation, "instruction": self._instruction}

    def _advise(self) -> int:
        assert self._inner_expert is not None
        if not self._task.is_the_environments:
            raise ExpertError(f"The expert knows the environment's own task only, not {self._task.name!r}.")
        return self._inner_expert()
