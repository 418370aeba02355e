"""The stopwatch adds phases up right and leaves nothing behind."""

from __future__ import annotations

import time

import pytest

from tools.stopwatch import Stopwatch


class Work:
    def __init__(self, now: list[float]):
        self.now = now

    def inner(self) -> str:
        self.now[0] += 2.0
        return "done"

    def outer(self) -> str:
        self.now[0] += 1.0
        return self.inner()


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def test_a_phase_inside_another_is_taken_off_it(now: list[float]) -> None:
    watch = Stopwatch()
    with watch.around(Work, "outer", "outside"), watch.around(Work, "inner", lambda: "inside"):
        assert [Work(now).outer(), Work(now).outer()] == ["done", "done"]
    Work(now).outer()  # no longer timed
    assert watch.seconds == {"inside": 4.0, "outside": 2.0}


def test_nested_phases_add_up_to_the_outermost(now: list[float]) -> None:
    watch = Stopwatch()
    with watch.phase("all"):
        now[0] += 0.5
        for _ in range(3):
            with watch.phase("part"):
                now[0] += 1.0
                with watch.phase("part of it"):
                    now[0] += 0.25
    assert watch.seconds == {"all": 0.5, "part": 3.0, "part of it": 0.75}
    assert sum(watch.seconds.values()) == now[0]


def test_a_phase_that_fails_is_timed_as_well(now: list[float]) -> None:
    def fail() -> None:
        now[0] += 1.0
        raise KeyError

    watch = Stopwatch()
    with watch.phase("all"):
        with pytest.raises(KeyError), watch.phase("fails"):
            fail()
        now[0] += 2.0
    assert watch.seconds == {"fails": 1.0, "all": 2.0}


def test_an_instance_is_left_as_it_was(now: list[float]) -> None:
    work, watch = Work(now), Stopwatch()
    with watch.around(work, "inner", "inside"):
        work.inner()
    assert watch.seconds == {"inside": 2.0}
    assert "inner" not in vars(work)


def test_it_waits_for_the_device_before_it_looks_at_the_clock(now: list[float]) -> None:
    pending = [0.0]

    def wait() -> None:
        now[0] += pending[0]
        pending[0] = 0.0

    watch = Stopwatch(wait)
    with watch.phase("started"):
        pending[0] = 3.0
    assert watch.seconds == {"started": 3.0}
