"""What the suite leaves out, and what it says is missing."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest

from tests.envs.worlds import system
from tests.sampling import each_once, sampled


def test_a_sample_is_spread_evenly_and_the_rest_is_marked() -> None:
    parameters = sampled(range(10), 3)
    assert [value for value in parameters if isinstance(value, int)] == [0, 3, 6]
    marked = [value for value in parameters if not isinstance(value, int)]
    assert [one.values for one in marked] == [(1,), (2,), (4,), (5,), (7,), (8,), (9,)]
    assert {mark.name for one in marked for mark in one.marks} == {"exhaustive"}
    assert sampled("ab", 5) == ["a", "b"]
    with pytest.raises(ValueError, match="At least one"):
        sampled("ab", 0)


def test_the_suite_leaves_out_what_is_marked_and_make_runs_it() -> None:
    root = Path(__file__).parents[1]
    setup = configparser.ConfigParser()
    setup.read(root / "setup.cfg")
    assert '-m "not exhaustive"' in setup["tool:pytest"]["addopts"]
    everything = (root / "Makefile").read_text(encoding="utf-8").split("test-all:")[1].split("\n\n")[0]
    assert '-m "exhaustive or not exhaustive"' in everything


def test_what_a_system_lacks_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr(system, "find_library", lambda _: None)
    monkeypatch.delenv("MINIWOB_CHROME_BINARY", raising=False)
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    told = system.missing()
    assert "apt-get install chromium" in told["MiniWoB++"]
    assert "apt-get install libosmesa6" in told["robotics"]
    assert "apt-get install build-essential" in told["TextWorld"]


def test_pairs_name_each_value_of_the_longer_one_once() -> None:
    for first, second in (([("a", 1), ("b", 2)], "xyz"), ("xyz", [("a", 1), ("b", 2)])):
        pairs = each_once(first, second)
        assert len({pair.values for pair in pairs}) == 6
        kept = [pair.values for pair in pairs if not pair.marks]
        assert len(kept) == 3
        assert {value for values in kept for value in values} == {"x", "y", "z", "a", "b", 1, 2}
