"""The report is one page that needs nothing else, escapes what environments say, and reads the figures right."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from heed.evaluation.report import write_report
from heed.evaluation.report.bars import as_rate, axis_rows
from heed.evaluation.report.curves import INK
from heed.evaluation.report.data import EnvironmentData
from heed.evaluation.report.heat_map import heat_map
from heed.evaluation.report.sentences import does_it_listen, how_well
from heed.evaluation.report.terminal import table_of
from heed.evaluation.report.viewer import as_script_text, shortened, viewer_data
from tests.evaluation.report_data import ACTIONS, CURVE, HOSTILE, cell, evaluation, figure, recording, trace


class Document(HTMLParser):
    """The tags of a page, what they point to, and the text in them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data")]

    def handle_data(self, data: str) -> None:
        (self.scripts if self.tags and self.tags[-1] == "script" and self.rawdata else self.texts).append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


CONFIG = {"agent": "ppo", "model": HOSTILE, "head": "score", "steps": 1000, "seed": 0, "run_dir": "runs/x"}


def write(folder: Path, **changed: Any) -> str:
    given: dict[str, Any] = {
        "evaluation": evaluation(),
        "curve": CURVE,
        "config": CONFIG,
        "recordings": [recording()] * 2,
        "traces": [trace()],
    }
    path = write_report(folder, **{**given, **changed})
    assert path == folder / "report.html"
    return path.read_text()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write(tmp_path_factory.mktemp("report"))


def environment(**changed: Any) -> EnvironmentData:
    one: Any = {**evaluation()["environments"][0], **changed}
    return one  # type: ignore[no-any-return]


# -- safety ------------------------------------------------------------------------------------------------


def test_the_page_needs_nothing_else(page: str) -> None:
    document = Document(page)
    assert document.references
    for reference in document.references:
        assert reference.startswith(("data:", "#")), reference
    assert not {"iframe", "object", "embed", "base"} & set(document.tags)
    assert "@import" not in page
    assert "url(" not in page.replace("url(#", "")  # clip paths are of the page itself


def test_what_an_environment_says_is_escaped(page: str) -> None:
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "<!-- the" not in page
    assert html.escape(HOSTILE).replace("&quot;", "&#34;").replace("&#x27;", "&#39;") in page
    assert page.count("<script") == page.count("</script>") == 2  # the data and the viewer


def test_json_in_the_page_says_what_it_said() -> None:
    data = {"text": f"{HOSTILE} ]]> \u2028 🔴", "list": [1.5, None, True]}
    text = as_script_text(data)
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == data
    with pytest.raises(ValueError, match="JSON"):
        as_script_text(float("nan"))


def test_the_policy_lets_no_other_script_run(page: str) -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)
    assert policy is not None
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in html.unescape(policy[1])
    assert "default-src 'none'" in html.unescape(policy[1])


def test_a_page_without_episodes_runs_no_script(tmp_path: Path) -> None:
    page = write(tmp_path, traces=())
    assert "<script" not in page
    assert "script-src &#39;none&#39;" in page


# -- figures -----------------------------------------------------------------------------------------------


def test_the_figures_are_on_the_page(page: str) -> None:
    text = Document(page).text  # in which a space that no line ends at is any space
    for told in (
        "World-v0",
        "512 held-out episodes",
        "90.0 % success, sampled actions 85.0 to 95.0 %",
        "0.86 following score 0.79 to 0.91",
        "80.0 % success, greedy actions",
        "25.0 % success, random actions",
        "100.0 % success, expert",
        "sampled 0.900 0.850 – 0.950",
        "zero-shot 0.375 0.325 – 0.425",
        "0.75 -0.25 – 1.75 12.0 11.0 – 13.0",  # return and length
        "A 512 0.625 0.575 – 0.675 0.125 0.075 – 0.175",
        "is shown as “va à la balle rouge”",
        "larger-rooms , in World-v0 (512 episodes)",
        "heed evaluate runs/x --suite babyai-test",
    ):
        assert told in text, told
    assert page.count("data:image/gif;base64,") == 2
    assert page.count("<svg") == 2  # success rate and loss
    assert "prefers-color-scheme" in page


def test_bars_stand_where_their_numbers_are() -> None:
    rows = {row.label: row for row in axis_rows(environment(), "sampled")}
    assert list(rows) == ["true", "blank", "swapped", "french", "more-distractors(count=9)"]
    true, shown = rows["swapped"].bars
    assert (true.kind, true.rate) == ("true", 0.2)
    assert true.interval == pytest.approx((0.15, 0.25))
    assert (shown.kind, shown.text) == ("shown", "0.85")
    assert shown.style == "--rate:0.8500;--low:0.8000;--high:0.9000"
    # Chance stands where it played; where it did not, as it did with nothing changed.
    assert [(mark.kind, mark.rate) for mark in rows["blank"].marks] == [("random", 0.25), ("expert", 1.0)]
    assert [mark.rate for mark in rows["more-distractors(count=9)"].marks] == [0.125, 1.0]


@pytest.mark.parametrize(
    ("given", "value", "interval"),
    [
        (figure(0.5), 0.5, (0.45, 0.55)),
        ((0.5, 0.4, 0.6), 0.5, (0.4, 0.6)),
        (0.5, 0.5, None),
        ({"value": 0.5, "ci95": []}, 0.5, None),
        ({"value": float("nan"), "ci95": [0, 1]}, None, None),
        (None, None, None),
        ({}, None, None),
        ("0.5", None, None),
    ],
)
def test_a_rate_is_read_in_every_form(given: Any, value: float | None, interval: Any) -> None:
    assert as_rate(given) == (value, interval if interval is None else pytest.approx(interval))


def test_the_heat_map_has_a_number_in_each_field() -> None:
    heat = heat_map(environment())
    assert heat is not None
    assert [(column.label, column.episodes) for column in heat.columns] == [(HOSTILE, 500), ("pick up", 12)]
    assert [row.label for row in heat.rows] == ["true", "french"]
    assert [[one.text for one in row.cells] for row in heat.rows] == [["0.91", "0.50"], ["0.41", "–"]]
    assert heat.rows[0].cells[1].style == "--heat:0.500"
    assert heat_map(environment(templates=[])) is None


def test_plots_take_the_colours_of_the_page(page: str) -> None:
    svg = page[page.index("<svg") : page.rindex("</svg>")]
    assert "var(--faint)" in svg  # axes and labels
    assert INK not in re.findall(r"#[0-9a-f]{6}", svg)


def test_the_same_evaluation_gives_the_same_page(tmp_path: Path, page: str) -> None:
    assert write(tmp_path) == page


# -- sentences ---------------------------------------------------------------------------------------------


def told(**changed: Any) -> str:
    return " ".join(does_it_listen(environment(**changed))).replace("\N{NO-BREAK SPACE}", " ")


def test_the_sentences_say_what_the_figures_mean() -> None:
    assert how_well(environment()).replace("\N{NO-BREAK SPACE}", " ") == (
        "With the true instruction it succeeds in 90.0 % (85.0 to 95.0 %) of the episodes; random actions in 25.0 %, "
        "the expert in 100.0 %."
    )
    assert "takes it 86 % of the way from its own success with a blank instruction (30.0 %)" in told()
    assert "Mostly, it does what it is told." in told()
    assert "does what it was shown in 85.0 % and the true one in 20.0 %: it goes by the words." in told()
    assert told().endswith("It does clearly worse, the worst first, on: french (40.0 %).")


def test_what_is_said_of_the_impossible_is_put_into_words_and_numbers(tmp_path: Path) -> None:
    def axes_of(**said: float) -> list[Any]:
        named = {"true": 0.02, "impossible": 0.9} if said else {}
        return [
            {
                "axis": name,
                "policies": {
                    "sampled": {
                        **cell(0.9, activity=0.25),
                        **({"said_impossible": figure(named[name])} if named else {}),
                    }
                },
            }
            for name in ("true", "impossible")
        ]

    says = (
        "Told to do something impossible, it says so in 90.0 % of the episodes; of what can be done, it says that it "
        "cannot in 2.0 %."
    )
    assert says in told(axes=axes_of(yes=1))
    silent = told(axes=axes_of())
    assert "near 0 it would have stopped. It has no action to say so, which --augment impossible gives" in silent
    assert says not in silent
    for axes, column in ((axes_of(yes=1), True), (axes_of(), False)):
        page = write(tmp_path, evaluation={**evaluation(), "environments": [environment(axes=axes)]})
        assert (">said no</th>" in page) == column
        console = Console(width=80, file=io.StringIO())
        shown: Any = environment(axes=[_with_all_figures(one) for one in axes])
        console.print(table_of(shown))
        assert ("said no" in console.file.getvalue()) == column  # type: ignore[attr-defined]


def _with_all_figures(axis: Any) -> Any:
    more = {name: figure(0.5) for name in ("episode_return", "length")}
    return {**axis, "policies": {name: {**one, **more} for name, one in axis["policies"].items()}}


@pytest.mark.parametrize(
    ("score", "sentence"),
    [
        ((0.97, 0.94, 1.0), "It does what it is told."),
        ((0.7, 0.6, 0.8), "Mostly, it does what it is told."),
        ((0.2, 0.1, 0.3), "It listens, but only in part."),
        ((0.02, -0.03, 0.07), "no sign here that it listens"),
        ((-0.2, -0.3, -0.1), "It does not do what it is told."),
    ],
)
def test_the_following_score_is_put_into_words(score: tuple[float, float, float], sentence: str) -> None:
    value, *interval = score
    assert sentence in told(following={"score": {"value": value, "ci95": interval}})


def test_where_there_is_no_following_score_its_reason_stands() -> None:
    assert "no following score: the expert is no better" in told(
        following={"score": None, "reason": "the expert is no better"}
    )


def listening(true: float, blank: float, swapped: float | None) -> dict[str, Any]:
    """An evaluation without a following score."""
    rates = {"true": true, "blank": blank, "swapped": swapped}
    axes = [{"axis": name, "policies": {"sampled": cell(rate)}} for name, rate in rates.items() if rate is not None]
    return {"episodes": 200, "seed": 0, "environments": [{"env": "World-v0", "axes": axes}]}


def text_of(folder: Path, **changed: Any) -> str:
    return Document(write(folder, **{"traces": (), "curve": [], **changed})).text


@pytest.mark.parametrize(
    ("rates", "sentence"),
    [
        ((0.9, 0.9, 0.88), "no sign here that it listens"),
        ((0.9, 0.3, 0.88), "only when the instruction is blank"),
        ((0.9, 0.9, None), "No other instruction could be put in the place"),
    ],
)
def test_without_a_following_score_blank_and_swapped_speak(
    rates: tuple[float, float, float | None], sentence: str, tmp_path: Path
) -> None:
    assert sentence in text_of(tmp_path, evaluation=listening(*rates))


def test_the_headline_tells_the_steps_that_the_agent_was_trained_for(tmp_path: Path) -> None:
    config = {**CONFIG, "steps": 120_000}
    text = text_of(tmp_path, evaluation={**evaluation(), "trained_steps": 41_984}, config=config)
    assert "trained for 41 984 steps" in text
    assert "trained for 120 000" not in text


# -- what may be missing -----------------------------------------------------------------------------------


def test_a_page_without_a_run_or_a_curve(tmp_path: Path) -> None:
    page = write(tmp_path, curve=[], config=None, recordings=[])
    assert "<svg" not in page
    assert "Configuration" not in page


@pytest.mark.parametrize(
    "bare",
    [
        {},
        {"environments": []},
        {"environments": [{"env": "World-v0"}]},
        {"environments": [{"env": "World-v0", "axes": [{"axis": "true"}], "following": {}}], "missing": [{}]},
        {
            "environments": [
                {"env": "World-v0", "axes": [{"axis": "true", "policies": {"mine": {"success": figure(0.5)}}}]}
            ]
        },
    ],
)
def test_whatever_is_not_known_is_left_out(bare: dict[str, Any], tmp_path: Path) -> None:
    page = write(tmp_path, evaluation=bare, curve=[], config=None, recordings=[], traces=())
    assert "<h1>" in page
    if bare.get("environments"):
        assert "World-v0" in page
    if "mine" in str(bare):
        assert "success, mine" in Document(page).text


def test_several_environments_follow_each_other_and_their_mean_comes_first(tmp_path: Path) -> None:
    one = evaluation()
    one["environments"] = [environment(env=name) for name in ("One-v0", "Two-v0")]
    one["mean"] = {"env": "mean of 2 environments", "axes": [{"axis": "true", "policies": {"sampled": cell(0.77)}}]}
    text = text_of(tmp_path, evaluation=one)
    assert text.index("77.0 %") < text.index("One-v0") < text.index("Two-v0")
    assert text.index("babyai-test") < text.index("mean of 2 environments")


# -- the step viewer's data --------------------------------------------------------------------------------


def episodes(*traces: Any, **options: Any) -> list[dict[str, Any]]:
    text = viewer_data(traces, **options)
    assert text is not None
    found: list[dict[str, Any]] = json.loads(text)
    return found


def test_a_step_has_all_that_is_shown_of_it() -> None:
    (episode,) = episodes(trace())
    step = episode["steps"][1]
    assert step["number"] == 2
    assert [(one["text"], one["taken"]) for one in step["actions"]] == [(text, text == ACTIONS[1]) for text in ACTIONS]
    assert step["actions"][1]["probability"] == 0.7496
    assert step["value"] == 2.5
    assert step["words"]["leave-one-out"] == [0.5, -4.0, 0.125]
    assert step["words"]["gradient-x-input"] == [0.125, -4.0, 0.5]
    part, start, end = step["words"]["spans"][2]
    assert (part, step["observation"][start:end]) == (1, "2")
    assert episode["end"]["success"] is True


def test_equal_pictures_stand_in_the_page_once() -> None:
    (episode,) = episodes(trace(steps=5))
    assert len(episode["pictures"]) == 1
    assert [step["picture"] for step in episode["steps"]] == [0] * 5
    (episode,) = episodes(trace(steps=5, different_pictures=True))
    assert len(episode["pictures"]) == 6


def test_numbers_that_json_has_not_become_null() -> None:
    one = trace(steps=1)
    assert one.steps[0].saliency is not None
    one.steps[0].saliency.leave_one_out[0] = -np.inf
    (episode,) = episodes(one)
    assert episode["steps"][0]["words"]["leave-one-out"][0] is None


def test_what_was_left_out_of_a_long_episode_is_said() -> None:
    (episode,) = episodes(trace(steps=5, length=300))
    assert episode["length"] == 300
    assert episode["leftOut"] == [5, 299]
    assert episodes(trace())[0]["leftOut"] is None


def test_a_shortened_episode_keeps_its_beginning_and_its_end() -> None:
    numbers = [step.number for step in shortened(trace(steps=20), 8).steps]
    assert numbers == [1, 2, 3, 4, 5, 6, 19, 20]
    short = trace()
    assert shortened(short, 8) is short


def side_of(address: str) -> int:
    with Image.open(io.BytesIO(base64.b64decode(address.removeprefix("data:image/png;base64,")))) as image:
        return max(image.size)


def test_pictures_shrink_before_steps_are_left_out() -> None:
    one = trace(steps=4, different_pictures=True)  # noise, 50 kB each
    assert {side_of(address) for address in episodes(one)[0]["pictures"][:4]} == {256}
    (smaller,) = episodes(one, max_bytes=100_000)
    assert {side_of(address) for address in smaller["pictures"][:4]} == {128}
    assert len(smaller["steps"]) == 4


def test_a_page_can_be_sent_around_however_much_there_is_to_see(tmp_path: Path) -> None:
    wordy = [trace(steps=60, observation="wall 1 ahead; " * 2000) for _ in range(3)]  # 5 MB of text
    page = write(tmp_path, traces=wordy)
    assert len(page) < 3_000_000
    shown = json.loads(page.split('id="episodes">')[1].split("</script>")[0])
    for episode in shown:
        assert episode["leftOut"] is not None
        assert episode["steps"][0]["number"] == 1
        assert episode["steps"][-1]["number"] == 60
    (tiny,) = episodes(wordy[0], max_bytes=1000)  # what cannot be less is not made less
    assert len(tiny["steps"]) == 8
