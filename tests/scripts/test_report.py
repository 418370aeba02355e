"""The report is one page that needs nothing else, escapes what environments say, and reads the figures right."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from heed.scripts.recording import Recording
from heed.scripts.report import INK, WHISKER, how_to_read, write_report

HOSTILE = "go to <script>alert('x')</script> the \"red\" ball"


def evaluation(true: float = 0.9, blank: float = 0.3, swapped: float | None = 0.3) -> dict[str, Any]:
    def row(rate: float) -> dict[str, Any]:
        return {"success_rate": rate, "ci95": [rate - 0.05, rate + 0.05], "mean_return": 0.5, "mean_length": 12.0}

    shown = {"true": true, "blank": blank, "swapped": swapped}
    return {
        "env": "World-v0",
        "episodes": 200,
        "seed": 0,
        "sampled": row(true),
        "greedy": row(0.8),
        "random": row(0.25),
        "instruction": shown,
        "instruction_ci95": {name: rate and [rate - 0.05, rate + 0.05] for name, rate in shown.items()},
        "templates": [{"template": text, "episodes": 100, **row(0.9)} for text in (HOSTILE, "pick up")],
        "levels": [{"level": name, "episodes": 77, "sampled": row(0.625), "random": row(0.125)} for name in ("A", "B")],
    }


def recording() -> Recording:
    return Recording(gif=b"GIF89a...", instruction=HOSTILE, success=True, steps=3, episode_return=1.0, seed=1)


CURVE = [{"steps": 1000.0 * n, "rollout/success_rate": n / 10, "train/loss": 1 / n} for n in range(1, 10)]


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.references: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data")]


@pytest.fixture
def page(tmp_path: Path) -> str:
    config = {"agent": "ppo", "model": HOSTILE, "head": "score", "steps": 1000, "seed": 0, "run_dir": "runs/x"}
    path = write_report(tmp_path, evaluation=evaluation(), curve=CURVE, config=config, recordings=[recording()] * 2)
    assert path == tmp_path / "report.html"
    return path.read_text()


def test_the_page_needs_nothing_else(page: str) -> None:
    links = Links()
    links.feed(page)
    assert links.references
    for reference in links.references:
        assert reference.startswith(("data:image/", "#")), reference
    assert not {"script", "link", "iframe"} & set(links.tags)
    assert "@import" not in page
    assert "url(http" not in page


def test_what_an_environment_says_is_escaped(page: str) -> None:
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_the_figures_are_on_the_page(page: str) -> None:
    for text in (
        "90.0 %",
        "80.0 %",
        "25.0 %",
        "0.850 – 0.950",
        "World-v0",
        "200 held-out episodes",
        "<td>A</td><td>77</td><td>0.625</td><td>0.575 – 0.675</td><td>-</td><td>0.125</td>",
        "prefers-color-scheme",
    ):
        assert text in page
    assert page.count("data:image/gif;base64,") == 2
    assert page.count("<svg") == 3  # true, blank and swapped; success rate; loss


def test_the_sentence_says_what_the_figures_mean() -> None:
    assert "it listens" in how_to_read(evaluation())
    assert "no sign here that it listens" in how_to_read(evaluation(0.9, 0.9, 0.88))
    assert "only when the instruction is blank" in how_to_read(evaluation(0.9, 0.3, 0.88))
    assert "single instruction" in how_to_read(evaluation(0.9, 0.9, None))


def test_plots_take_the_colours_of_the_page(page: str) -> None:
    svg = page[page.index("<svg") : page.rindex("</svg>")]
    assert "var(--faint)" in svg  # axes and labels
    assert "var(--ink)" in svg  # intervals, which must stand out from the bars
    assert not {INK, WHISKER} & set(re.findall(r"#[0-9a-f]{6}", svg))


def test_the_headline_tells_the_steps_that_the_agent_was_trained_for(tmp_path: Path) -> None:
    config = {"agent": "ppo", "model": "m", "head": "score", "steps": 120_000, "seed": 0, "run_dir": "runs/x"}
    stopped_early = {**evaluation(), "trained_steps": 41_984}
    page = write_report(tmp_path, evaluation=stopped_early, curve=[], config=config, recordings=[]).read_text()
    assert "trained for 41 984 steps" in page
    assert "120 000" not in page


def test_a_page_without_a_run_or_a_curve(tmp_path: Path) -> None:
    page = write_report(tmp_path, evaluation=evaluation(swapped=None), curve=[], config=None, recordings=[]).read_text()
    assert page.count("<svg") == 1
    assert "Configuration" not in page
