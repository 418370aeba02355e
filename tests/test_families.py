"""Agents of real architectures, from a saved model to an agent that another process loads."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from examples.families import FAMILIES, measure, table
from tests import forked


def test_agents_of_a_family_learn_and_another_process_loads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`python -m examples.families` does the same with all of them, and docs/families.md has its table."""
    monkeypatch.setattr(subprocess, "run", forked.run)
    rows = list(measure(["Flan-T5"], tmp_path))
    for row in rows:
        assert row.difference == 0
        assert row.change > 1e-4
        assert all(0 < share <= 0.05 for share in row.share.values())
    assert table(rows).count("\n| ") == 1


def test_the_documented_table_has_every_family() -> None:
    page = (Path(__file__).parents[1] / "docs" / "families.md").read_text(encoding="utf-8")
    assert all(f"\n| {family} |" in page for family in FAMILIES)
