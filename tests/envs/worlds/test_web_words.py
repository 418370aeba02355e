"""A page of plain data becomes words and actions, each worked out by hand."""

from typing import Any

import pytest

from heed.envs.worlds.miniwob.actions import actions_on, typed_texts, words_to_type
from heed.envs.worlds.miniwob.words import (
    Thing,
    colour_name,
    describe,
    in_reading_order,
    things_on,
)


def element(
    tag: str, ref: int, *children: dict[str, Any], at: tuple[int, int] = (0, 0), **others: Any
) -> dict[str, Any]:
    """Return an element of 40 x 20 pixels."""
    left, top = at
    return {"tag": tag, "ref": ref, "left": left, "top": top, "width": 40, "height": 20, "children": children, **others}


def page(*children: dict[str, Any]) -> dict[str, Any]:
    """Return a page with these elements."""
    return element("BODY", 1, *children)


LOGIN = page(
    element(
        "P", 2, element("LABEL", 3, text="Username"), element("INPUT_text", 4, at=(0, 20), id="username", value="")
    ),
    element("INPUT_password", 5, at=(0, 60), id="password", value="AU", focused=True),
    element("BUTTON", 6, at=(0, 90), text="Login", id="subbtn", clickable=True),
)


def test_a_page_is_told_in_reading_order() -> None:
    """Lines from above, each from the left, whatever the order of the elements."""
    things = things_on(
        page(
            element("BUTTON", 2, at=(100, 52), text="right"),
            element("BUTTON", 3, at=(0, 50), text="left"),
            element("BUTTON", 4, at=(50, 0), text="above"),
        )
    )
    assert describe(things) == "button above; button left; button right"


def test_a_line_ends_where_the_next_begins() -> None:
    """Middles 3 pixels apart are one line of text of 20, but 12 apart are two."""
    boxes = [(50.0, 0.0, 40.0, 20.0), (0.0, 3.0, 40.0, 20.0), (80.0, 12.0, 40.0, 20.0)]
    things = [Thing(kind="", name=str(index), ref=index, box=box) for index, box in enumerate(boxes)]
    assert [thing.name for thing in in_reading_order(things)] == ["1", "0", "2"]


def test_inputs_tell_what_is_in_them() -> None:
    """Text boxes have names from labels or telling ids, and their value and the focus as their states."""
    assert describe(things_on(LOGIN)) == (
        'Username; text box username (empty); password box password (focused, "AU"); button Login'
    )


def test_ids_that_tell_nothing_are_not_told() -> None:
    """`tt` and `answer-input` are a program's names."""
    things = things_on(page(element("INPUT_text", 2, id="tt"), element("INPUT_text", 3, at=(0, 30), id="answer-input")))
    assert describe(things) == "text box (empty); text box (2) (empty)"


def test_a_checkbox_is_called_by_its_label() -> None:
    """The label's text is not told again, and the box in it is not lost with it."""
    label = element(
        "LABEL", 2, element("INPUT_checkbox", 3, label="red", value=True), element("t", -1, text="red"), labels=True
    )
    assert describe(things_on(page(label))) == "checkbox red (checked)"


def test_things_of_one_name_are_numbered() -> None:
    """So that two actions never share their words."""
    things = things_on(page(*(element("BUTTON", ref, at=(0, 30 * ref), text="ok") for ref in (2, 3))))
    actions = actions_on(things, "Click ok", (), most=8)
    assert [(action.text, action.ref) for action in actions] == [("click button ok", 2), ("click button ok (2)", 3)]


def test_texts_beside_each_other_are_one() -> None:
    """A sentence with a link in it."""
    words = [element("t", -1, text="one"), element("t", -2, at=(50, 0), text="two")]
    link = element("SPAN", 2, at=(100, 0), text="three", classes="alink")
    assert describe(things_on(page(*words, link))) == "one two; link three"


def test_what_listens_is_called_by_its_text() -> None:
    """A row that opens a letter, with a star in it: both can be clicked, and the row's name has no star."""
    row = element(
        "DIV",
        2,
        element("SPAN", 3, text="Coletta"),
        element("SPAN", 4, at=(100, 0), clickable=True, classes="star clicked"),
        clickable=True,
    )
    assert describe(things_on(page(row))) == "text Coletta; icon star"


def test_a_long_container_is_not_one_thing() -> None:
    """Its parts are what is clicked: the click goes on to it."""
    parts = [element("SPAN", ref, at=(0, 20 * ref), text=f"a part of {'many ' * 6}words {ref}") for ref in (3, 4)]
    things = things_on(page(element("DIV", 2, *parts, clickable=True)))
    assert [thing.ref for thing in things if thing.usable] == [3, 4]


def test_what_is_hidden_is_not_told() -> None:
    """Nor can it be clicked."""
    things = things_on(page(element("BUTTON", 2, text="no", hidden=True), element("BUTTON", 3, text="yes")))
    assert describe(things) == "button yes"


def test_a_page_that_listens_nowhere_can_be_clicked_anywhere() -> None:
    """There is always something to do."""
    actions = actions_on(things_on(page(element("DIV", 2, text="hello"))), "Say hello", (), most=4)
    assert [action.text for action in actions] == ["click text hello"]
    assert [action.text for action in actions_on(things_on(page()), "Wait", (), most=4)] == ["wait"]


def test_drawings_are_told_by_colour_and_size() -> None:
    """A red triangle of 20 pixels."""
    drawing = element("polygon", 2, points=3, fill="rgb(255, 0, 0)", clickable=True)
    things = things_on(page(drawing))
    assert describe(things) == "triangle red (20 high)"
    assert actions_on(things, "", (), most=4)[0].text == "click triangle red"


@pytest.mark.parametrize(
    ("colour", "name"),
    [
        ("rgb(255, 0, 0)", "red"),
        ("rgb(250, 10, 5)", "red"),
        ("rgba(0, 0, 255, 0.5)", "blue"),
        ("rgb(0, 255, 255)", "cyan"),  # not aqua: click-color says cyan
        ("rgba(0, 0, 0, 0)", ""),
        ("none", ""),
    ],
)
def test_colours_have_the_nearest_name(colour: str, name: str) -> None:
    """What cannot be seen has none."""
    assert colour_name(colour) == name


def test_fields_are_typed_into_boxes() -> None:
    """Each of them into each box; the key Enter where a box has the focus."""
    actions = actions_on(things_on(LOGIN), "Log in as bob with AU", ("bob", "AU"), most=64)
    assert [action.text for action in actions] == [
        "click text box username",
        "type bob into text box username",
        "type AU into text box username",
        "click password box password",
        "type bob into password box password",
        "type AU into password box password",
        "press enter",
        "click button Login",
    ]


def test_options_of_a_list_are_chosen() -> None:
    """By their place in it."""
    things = things_on(page(element("SELECT", 2, options=["Ann", "Bob"], value="Ann", clickable=True)))
    assert describe(things) == 'list ("Ann")'
    chosen = actions_on(things, "Select Bob", (), most=8)[2]
    assert (chosen.text, chosen.what, chosen.ref, chosen.index) == ("choose Bob in list", "choose", 2, 1)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["", "Ann", "Bob"], {"choose (empty)": 0, "choose Ann": 1, "choose Bob": 2}),
        (["Ann", "Ann", "Bob", " Ann "], {"choose Ann": 0, "choose Ann (2)": 1, "choose Bob": 2, "choose Ann (3)": 3}),
        (["A", "A", "A (2)", "A"], {"choose A": 0, "choose A (3)": 1, "choose A (2)": 2, "choose A (4)": 3}),
        (["", "a  b", "", "a b"], {"choose (empty)": 0, "choose a b": 1, "choose (empty) (2)": 2, "choose a b (2)": 3}),
    ],
)
def test_each_option_has_a_name_of_its_own(options: list[str], expected: dict[str, int]) -> None:
    """Which is that of the very option that is chosen, whatever the others are called."""
    things = things_on(page(element("SELECT", 2, options=options, chosen=[1])))
    chosen = {action.text: action.index for action in actions_on(things, "", (), most=64) if action.what == "choose"}
    assert chosen == {f"{text} in list": index for text, index in expected.items()}
    (name,) = [text.removeprefix("choose ") for text, index in expected.items() if index == 1]
    assert describe(things) == f'list ("{name}")'


def test_options_that_cannot_be_chosen_are_left_out_and_chosen_ones_of_several_taken_back() -> None:
    """Their places count all the same."""
    several: dict[str, Any] = {
        "options": ["-", "Ann", "Bob", "Bob"],
        "unusable": [0],
        "chosen": [1, 3],
        "multiple": True,
    }
    things = things_on(page(element("SELECT", 2, **several)))
    told = [(action.text, action.index) for action in actions_on(things, "", (), most=64)[1:]]
    assert told == [("unselect Ann in list", 1), ("choose Bob in list", 2), ("unselect Bob (2) in list", 3)]
    assert describe(things) == 'list ("Ann, Bob (2)")'


@pytest.mark.parametrize(
    "children",
    [
        [element("BUTTON", 2, text="A"), element("BUTTON", 3, text="A"), element("BUTTON", 4, text="A (2)")],
        [element("BUTTON", 2, text="A (2)"), element("BUTTON", 3, text="A"), element("BUTTON", 4, text="A")],
        # A text box without a name, and a text that is called "box".
        [element("INPUT_text", 2), element("DIV", 3, text="box", clickable=True), element("INPUT_text", 4)],
        [element("BUTTON", 2), element("BUTTON", 3), element("BUTTON", 4, text=""), element("LI", 5, clickable=True)],
        # "choose a in list b in list c": option "a" of the one, "a in list b" of the other.
        [
            element("SELECT", 2, label="b in list c", options=["a"]),
            element("SELECT", 3, label="c", options=["a in list b"]),
        ],
        [element("BUTTON", 2, text="x" * 70), element("BUTTON", 3, text="x" * 80)],
        [element("INPUT_text", 2, label="b"), element("INPUT_text", 3, label="a into text box b")],
    ],
)
def test_each_text_is_of_one_action_and_each_action_there(children: list[dict[str, Any]]) -> None:
    """Whatever the page calls its things."""
    things = things_on(page(*children))
    assert len({thing.title for thing in things}) == len(things) == len(children)
    actions = actions_on(things, "", ("a", "a into text box b"), most=64)
    assert len({action.text for action in actions}) == len(actions)
    assert {(action.what, action.ref) for action in actions} >= {("click", child["ref"]) for child in children}
    wanted = sum(1 + len(child.get("options", ())) + 2 * child["tag"].startswith("INPUT") for child in children)
    assert len({(action.what, action.ref, action.index, action.typed) for action in actions}) == len(actions) == wanted


def test_what_is_disabled_cannot_be_done() -> None:
    """But it is told."""
    things = things_on(
        page(element("BUTTON", 2, text="no", disabled=True), element("BUTTON", 3, at=(0, 30), text="yes"))
    )
    assert describe(things) == "button no (disabled); button yes"
    assert [action.text for action in actions_on(things, "", (), most=4)] == ["click button yes"]


def test_what_the_instruction_names_is_kept_first() -> None:
    """Of six links and two texts, with room for three: the text that is named, and the first two links."""
    links = [element("A", ref, at=(0, 30 * ref), text=f"link{ref}") for ref in range(2, 8)]
    texts = [element("DIV", ref, at=(0, 30 * ref), text=name, clickable=True) for ref, name in ((8, "Leo"), (9, "Ann"))]
    things = things_on(page(*links, *texts))
    kept = actions_on(things, 'Click on "link7"', (), most=3)
    assert [action.text for action in kept] == ["click link link2", "click link link3", "click link link7"]
    assert len(actions_on(things, "", (), most=8)) == 8


def test_long_pages_are_cut() -> None:
    """At the length that was asked for."""
    things = things_on(page(*(element("BUTTON", ref, at=(0, 30 * ref), text="long") for ref in range(2, 40))))
    words = describe(things, max_length=50)
    assert len(words) <= 50
    assert words.endswith(" ...")


@pytest.mark.parametrize(
    ("instruction", "fields", "texts"),
    [
        ('Enter "Myron" and press Submit.', [("target", "Myron")], ("Myron",)),
        ('Enter "Myron" and press "Submit".', [], ("Myron", "Submit")),
        ("Type bob, then go.", [], ("Type", "bob", "then", "go")),
    ],
)
def test_what_an_instruction_gives_to_type(
    instruction: str, fields: list[tuple[str, str]], texts: tuple[str, ...]
) -> None:
    """Its fields, else what is quoted, else its words."""
    assert typed_texts(instruction, fields) == texts


def test_every_word_can_be_typed() -> None:
    """Quoted ones as a whole, too."""
    assert words_to_type('Enter "Ann Lee" now') == ("Ann Lee", "Enter", "Ann", "Lee", "now")
