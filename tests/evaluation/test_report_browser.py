"""The pages in a real browser: on a phone and on a desk, light and dark, clicked through, and silent on the network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from heed.evaluation.report import write_comparison_page, write_report
from heed.evaluation.report.data import EvaluationData
from tests.browser import NAMES, Browser, Page, find_browser
from tests.evaluation.report_data import ACTIONS, CURVE, HOSTILE, evaluation, recording, trace
from tests.evaluation.test_report_comparison import comparison

PHONE = 390

if find_browser() is None:
    pytest.skip(
        f"no Chromium to test the pages in (looked for {', '.join(NAMES)}): apt-get install chromium",
        allow_module_level=True,
    )


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    executable = find_browser()
    assert executable is not None
    running = Browser(executable, tmp_path_factory.mktemp("browser"))
    yield running
    running.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = {"agent": "ppo", "model": HOSTILE, "head": "score", "steps": 1000, "seed": 0, "run_dir": "runs/x" * 40}
    return write_report(
        tmp_path_factory.mktemp("report"),
        evaluation=cast(EvaluationData, evaluation()),
        curve=CURVE,
        config=config,
        recordings=[recording()],
        traces=[trace(), trace(steps=4, length=90, instruction="x" * 300, title="swapped")],
    )


def require_quiet(page: Page) -> None:
    assert page.errors == []
    assert [address for address in page.requests if not address.startswith(("file:", "data:"))] == []


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [PHONE, 1200])
def test_nothing_overflows_fails_or_goes_out(width: int, dark: bool, browser: Browser, report: Path) -> None:
    with browser.open(report, width=width, dark=dark) as page:
        assert page.evaluate("[innerWidth, document.documentElement.scrollWidth]") == [width, width]
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        page.evaluate("location.hash = 'episode=2'")
        assert page.evaluate("document.documentElement.scrollWidth") == width
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert background == ("rgb(20, 24, 29)" if dark else "rgb(255, 255, 255)")
        require_quiet(page)


def test_the_steps_can_be_gone_through(browser: Browser, report: Path) -> None:
    with browser.open(report, width=PHONE) as page:
        assert page.text("where") == "Step 1 of 3"
        page.click("[data-part=next]")
        assert page.text("where") == "Step 2 of 3"
        assert page.text("value") == "2.5"
        assert page.text("observation") == "🔴 red ball 2 left 2"
        page.press("ArrowRight")
        assert page.text("where") == "Step 3 of 3"
        page.press("ArrowRight")
        assert page.text("where") == "The end"
        assert page.text("verdict") == "Success"
        assert page.evaluate("document.querySelector('[data-part=verdict]').className") == "verdict success"
        assert page.text("after") == "after 3 steps, return 1"
        assert page.evaluate("document.querySelector('[data-part=next]').disabled")
        page.press("ArrowLeft")
        page.click("[data-part=previous]")
        assert page.text("where") == "Step 2 of 3"
        page.evaluate(
            "(() => { const slider = document.querySelector('[data-part=slider]'); slider.value = 0;"
            " slider.dispatchEvent(new Event('input')); })()"
        )
        assert page.text("where") == "Step 1 of 3"
        page.evaluate(
            "(() => { const episode = document.querySelector('[data-part=episode]'); episode.value = 1;"
            " episode.dispatchEvent(new Event('change')); })()"
        )
        assert page.text("where") == "Step 1 of 90"
        assert page.text("left-out") == "The episode is long: its steps 4 to 89 are left out here."
        require_quiet(page)


def test_words_are_coloured_by_what_they_did(browser: Browser, report: Path) -> None:
    words = "[...document.querySelectorAll('.word')].map((one) => [one.textContent, one.dataset.sign, one.title])"
    with browser.open(report) as page:
        # The first character of the observation takes two units of UTF-16: positions must not be counted in those.
        assert page.evaluate(words) == [["go", "for", "+0.50"], ["🔴", "against", "-2.0"], ["1", "for", "+0.13"]]
        page.click("input[value='gradient-x-input']")
        assert page.evaluate(words) == [["go", "for", "+0.13"], ["🔴", "against", "-2.0"], ["1", "for", "+0.50"]]
        assert "would lose, or gain" in page.text("meaning")
        page.click("input[value='gradient-norm']")
        assert [title for *_, title in page.evaluate(words)] == ["0.5", "2", "0.125"]
        strongest = page.evaluate("[...document.querySelectorAll('[data-part=strongest] b')].map((b) => b.textContent)")
        assert strongest == ["🔴", "go", "1"]
        assert page.evaluate("getComputedStyle(document.querySelectorAll('.word')[1]).backgroundColor").startswith(
            "rgba"
        )
        require_quiet(page)


def test_actions_have_bars(browser: Browser, report: Path) -> None:
    with browser.open(report) as page:
        found = page.evaluate(
            "[...document.querySelectorAll('[data-part=actions] li')].map((one) => ["
            "one.querySelector('.name').textContent, one.querySelector('.percent').textContent, one.className,"
            " one.querySelector('.filled').offsetWidth / one.querySelector('.track').offsetWidth])"
        )
    assert [name for name, *_ in found] == list(ACTIONS)
    assert [percent for _, percent, *_ in found] == [
        "25\N{NO-BREAK SPACE}%",
        "75\N{NO-BREAK SPACE}%",
        "0\N{NO-BREAK SPACE}%",
    ]
    assert [kind for _, _, kind, _ in found] == ["", "taken", ""]
    assert [width for *_, width in found] == pytest.approx([0.25, 0.75, 0.0], abs=0.01)


def test_what_an_environment_says_stays_text(browser: Browser, report: Path) -> None:
    with browser.open(report) as page:
        assert page.text("instruction") == HOSTILE
        assert page.evaluate("document.querySelectorAll('script').length") == 2
        assert (
            page.evaluate("document.querySelectorAll('#viewer b').length") == 3
        )  # of the strongest words, no action's
        assert page.evaluate("[...document.images].every((one) => one.src.startsWith('data:image/'))")
        require_quiet(page)


def test_an_address_leads_to_a_step(browser: Browser, report: Path) -> None:
    with browser.open(report, at="episode=2&step=2&words=gradient-norm") as page:
        assert page.text("where") == "Step 2 of 90"
        assert page.evaluate("document.querySelector('input[name=words]:checked').value") == "gradient-norm"
        assert page.text("episode").count("swapped: “xxx") == 1
        page.evaluate("location.hash = 'episode=99&step=nonsense'")  # what cannot be is brought to what can
        require_quiet(page)
        assert page.text("where").startswith("Step 1 of")


def test_bars_are_as_long_as_their_numbers(browser: Browser, report: Path) -> None:
    with browser.open(report, width=PHONE) as page:
        shares = page.evaluate(
            "[...document.querySelectorAll('.bar')].map((one) => one.querySelector('.filled').offsetWidth /"
            " one.querySelector('.track').offsetWidth)"
        )
        numbers = page.evaluate("[...document.querySelectorAll('.bar .number')].map((one) => Number(one.textContent))")
    assert numbers == [0.9, 0.3, 0.2, 0.85, 0.4, 0.88]
    assert shares == pytest.approx(numbers, abs=0.01)


@pytest.mark.parametrize("width", [PHONE, 1000])
def test_the_comparison_fits_as_well(width: int, browser: Browser, tmp_path: Path) -> None:
    with browser.open(write_comparison_page(tmp_path, comparison()), width=width, dark=True) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate("document.querySelectorAll('svg').length") == 1
        require_quiet(page)


def test_the_browser_tells_of_errors_and_requests(browser: Browser, tmp_path: Path) -> None:
    """The wrong variant: a page that does what ours must not."""
    path = tmp_path / "bad.html"
    path.write_text(
        "<!doctype html><div style='width: 2000px'>wide</div><img src='http://127.0.0.1:9/none.png'><script>oops()</script>"
    )
    with browser.open(path, width=PHONE) as page:
        assert any("oops" in error for error in page.errors)
        assert "http://127.0.0.1:9/none.png" in page.requests
        assert page.evaluate("document.documentElement.scrollWidth") > PHONE
