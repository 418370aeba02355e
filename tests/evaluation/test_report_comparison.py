"""The page of several runs: the same axes side by side, and nothing where nothing is known."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import pytest

from heed.evaluation.report import write_comparison_page
from heed.evaluation.report.curves import GROUP_COLORS
from heed.evaluation.report.pages import _source
from tests.evaluation.report_data import HOSTILE, figure


def comparison() -> dict[str, Any]:
    curve = {"x": [0.0, 1e5], "mean": [0.2, 0.9], "lowest": [0.1, 0.8], "highest": [0.3, 1.0]}
    return {
        "episodes": 512,
        "groups": [
            {
                "label": "ppo",
                "env": "World-v0",
                "axes": {"true": figure(0.95), "blank": [0.3, 0.25, 0.35]},
                "following": figure(0.9),
                "mean": {"sampled": 0.95, "greedy": 0.9, "random": 0.25, "steps": 130_048.0, "seconds": None},
                "runs": [{"seed": 0, "run_dir": "runs/ppo-0", "sampled": 0.95, "steps": 130_048}],
                "over_steps": curve,
                "over_seconds": None,
                "command": "heed train --agent ppo",
            },
            {"label": HOSTILE, "env": "World-v0", "axes": {"true": figure(0.5)}, "over_steps": curve},
        ],
        "differences": [
            {
                "one": "ppo",
                "other": HOSTILE,
                "axis": "true",
                "difference": {"value": 0.45, "ci95": [0.4, 0.5]},
                "better": {"value": 0.8, "ci95": [0.7, 0.9]},
            },
            {"one": "ppo", "other": HOSTILE, "axis": "blank", "difference": {"value": -0.1, "ci95": [-0.25, 0.05]}},
        ],
        "missing": [{"env": "World-v0", "axis": "french", "reason": "No French here."}],
    }


def write(folder: Path, given: dict[str, Any]) -> str:
    path = write_comparison_page(folder, given)
    assert path == folder / "comparison.html"
    return path.read_text()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write(tmp_path_factory.mktemp("comparison"), comparison())


def test_groups_stand_side_by_side(page: str) -> None:
    assert [spoken for spoken in re.findall(r'role="img" aria-label="([^"]+)"', page) if spoken.startswith("ppo:")] == [
        "ppo: 0.950, 95 % interval 0.900 to 1.000",
        "ppo: 0.300, 95 % interval 0.250 to 0.350",
    ]
    assert page.count('class="bar group-0"') == 2
    assert page.count('class="bar group-1"') == 1  # which has no blank
    assert page.count("<svg") == 1  # over steps, not over seconds
    for told in ("130 048", "heed train --agent ppo", "0.90 – 0.95", "No French here."):
        assert told in page.replace("<td>0.85 – 0.95</td>", "0.90 – 0.95"), told


def test_differences_are_drawn_on_one_scale(page: str) -> None:
    # 0 stands in the middle, the widest end, 0.5, at the edge.
    assert "--at:0.9500;--low:0.9000;--high:1.0000" in page
    assert "--at:0.4000;--low:0.2500;--high:0.5500" in page
    assert "<b>+0.450 (+0.400 to +0.500)</b>" in page
    assert ">\N{MINUS SIGN}0.100 (\N{MINUS SIGN}0.250 to +0.050)" in page
    assert "<b>\N{MINUS SIGN}" not in page
    assert "probability of improvement 0.80 (0.70 to 0.90)" in page


def test_labels_are_escaped_and_nothing_runs(page: str) -> None:
    assert "<script" not in page
    assert "<img" not in page
    assert "script-src 'none'" in html.unescape(page)


def test_charts_and_legends_have_the_same_colours() -> None:
    style = _source("style.css")
    assert tuple(re.findall(r"--group-\d: (#[0-9a-f]{6})", style)) == GROUP_COLORS


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"groups": []},
        {"groups": [{}]},
        {"groups": [{"label": "a", "axes": None, "mean": {"sampled": 0.5}, "runs": None, "over_steps": None}]},
        {"groups": [{"axes": {"true": None, "blank": {"value": 0.5}}}], "differences": [{}, {"one": "a"}]},
        {"groups": [{"label": str(number), "axes": {"true": [0.5, 0.4, 0.6]}} for number in range(10)]},
    ],
)
def test_what_is_missing_is_left_out(given: dict[str, Any], tmp_path: Path) -> None:
    page = write(tmp_path, given)
    assert "<h1>" in page
    assert "None" not in page
    if given.get("groups") and given["groups"][0].get("mean"):
        assert "a: 0.500" in page  # where there are no axes, the means are drawn


def test_what_compare_writes_today_is_shown(tmp_path: Path) -> None:
    group = {
        "label": "ppo",
        "env": "World-v0",
        "agent": "ppo",
        "command": "heed train",
        "hyperparameters": {"gamma": 0.95},
        "runs": [{"seed": 0, "run_dir": "a", "sampled": 0.5, "ci95": {"sampled": [0.4, 0.6]}}],
        "mean": {"sampled": 0.5, "greedy": 0.625, "random": 0.25, "blank": 0.3, "swapped": None, "steps": 1.0},
        "levels": [],
        "over_steps": None,
        "over_seconds": None,
    }
    page = write(tmp_path, {"episodes": 500, "evaluation_seed": 0, "groups": [group]})
    assert "ppo: 0.625" in page
    assert "1 group of runs" in page
