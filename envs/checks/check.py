"""What a check came to: a rule that is kept or broken, or kept with something to note."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Check:
    """One rule, and whether the environment keeps it."""

    name: str
    passed: bool
    detail: str
    """What was seen."""
    fix: str = ""
    """How to fix it; empty where there is nothing to fix."""
    note: str = ""
    """What might be better although no rule is broken; empty where there is nothing to note."""

    @property
    def outcome(self) -> Literal["pass", "note", "fail"]:
        """Whether the rule is kept, kept with a note, or broken."""
        if not self.passed:
            return "fail"
        return "note" if self.note else "pass"


def passed(name: str, detail: str, *, note: str = "") -> Check:
    """Return a rule that is kept."""
    return Check(name=name, passed=True, detail=detail, note=note)


def failed(name: str, detail: str, fix: str) -> Check:
    """Return a rule that is broken."""
    return Check(name=name, passed=False, detail=detail, fix=fix)


class BrokenRuleError(Exception):
    """A broken rule that was found in the midst of playing."""

    def __init__(self, check: Check):
        super().__init__(check.detail)
        self.check = check


def told(error: BaseException) -> str:
    """Return an error's class and message."""
    return f"{type(error).__name__}: {error}"


def short(value: object) -> str:
    """Return a value as code would write it, cut to a line."""
    text = value if isinstance(value, str) else repr(value)
    return textwrap.shorten(repr(text) if isinstance(value, str) else text, width=160, placeholder=" ...")
