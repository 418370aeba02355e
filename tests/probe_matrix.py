"""Every agent, head and kind of model, put to the probes: what they are, and a table of how they do.

OMP_NUM_THREADS=1 python -m tests.probe_matrix             # all, as a table of Markdown
OMP_NUM_THREADS=1 python -m tests.probe_matrix ppo dqn     # these agents
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from heed.agents import AGENTS, ALGORITHMS
from heed.agents.probing import GAMMA, Result, check_agent
from heed.policies import load_language_model
from heed.policies.models.language_model import LanguageModel
from tests.probe_models import KINDS, small_model

MODELS = ("heed-tiny", *KINDS)


def _exists(name: str, head: str, kind: str) -> bool:
    # A table has neither a head nor a model.
    return name != "q-learning" or (head, kind) == ("score", "heed-tiny")


MATRIX = [
    (name, head, kind)
    for name in AGENTS
    for head in ("score", "linear")
    for kind in MODELS
    if _exists(name, head, kind)
]
"""Agent, head and kind of model."""


def models(folder: Path) -> Callable[[str], LanguageModel]:
    """Return what returns the model of a kind, and makes it only once; `folder` is for those that are saved."""
    return cache(lambda kind: load_language_model("heed-tiny") if kind == "heed-tiny" else small_model(kind, folder))


def maker(
    name: str, break_it: Callable[[Any], None] = lambda agent: None, **policy_kwargs: Any
) -> Callable[[Any], Any]:
    """Return what makes an agent, whole or broken on purpose."""

    def make(env: Any) -> Any:
        kwargs = {} if name == "q-learning" else {"policy_kwargs": {"max_prompt_tokens": 84, **policy_kwargs}}
        kind: Any = AGENTS[name]
        agent = kind(env=env, seed=0, gamma=GAMMA, device="cpu", **ALGORITHMS[name].probing, **kwargs)
        break_it(agent)
        return agent

    return make


def check(name: str, make: Callable[[Any], Any], **options: Any) -> Iterator[Result]:
    """Put an agent to the probes, in groups if it compares episodes that begin alike."""
    return check_agent(make, group_size=ALGORITHMS[name].probing.get("group_size", 1), **options)


def check_whole(
    name: str, head: str, kind: str, model: Callable[[str], LanguageModel], **options: Any
) -> Iterator[Result]:
    """Put a whole agent, with a head and a kind of model, to the probes."""
    frozen: dict[str, Any] = {"train_layers": 0} if kind == "segments" else {}
    return check(name, maker(name, model=model(kind), head=head, **frozen), **options)


def skipped(name: str, head: str) -> set[str]:
    """Return the probes that an agent cannot solve by what it is."""
    if name == "q-learning":
        return {"actions", "numbers", "picture"}
    return ({"value", "observation"} if name == "grpo" else set()) | ({"actions"} if head == "linear" else set())


def _table(names: list[str]) -> Iterator[str]:
    """Yield the lines of a table: passed, failed and skipped probes, and seconds of CPU time."""
    yield f"| agent | head | {' | '.join(MODELS)} |"
    yield f"|---|---|{'---|' * len(MODELS)}"
    with tempfile.TemporaryDirectory() as folder:
        model = models(Path(folder))
        for name, head in dict.fromkeys((name, head) for name, head, _ in MATRIX if name in names):
            cells = [_cell(name, head, kind, model) if (name, head, kind) in MATRIX else "" for kind in MODELS]
            yield f"| {name} | {'' if name == 'q-learning' else head} | {' | '.join(cells)} |"


def _cell(name: str, head: str, kind: str, model: Callable[[str], LanguageModel]) -> str:
    model(kind)  # to make it is no part of the probes
    began = time.process_time()
    outcomes: Counter[str] = Counter()
    for result in check_whole(name, head, kind, model):
        outcomes[result.outcome] += 1
        print(name, head, kind, *result.as_json().values(), sep="\t", file=sys.stderr, flush=True)
    seconds = time.process_time() - began
    return f"{outcomes['passed']} / {outcomes['failed']} / {outcomes['skipped']}, {seconds:.0f} s"


if __name__ == "__main__":
    for line in _table(sys.argv[1:] or list(AGENTS)):
        print(line, flush=True)
