"""Facts of a text game become words, worked out by hand."""

import pytest

from heed.envs.worlds.textworld.words import Fact, describe_facts, read_texts, useful_commands, without_layout

FACTS: list[Fact] = [
    ("at", ("P", "kitchen")),
    ("north_of", ("garden", "kitchen")),
    ("west_of", ("hall", "kitchen")),
    ("east_of", ("kitchen", "hall")),
    ("free", ("kitchen", "hall")),
    ("link", ("kitchen", "screen door", "garden")),
    ("closed", ("screen door",)),
    ("at", ("fridge", "kitchen")),
    ("open", ("fridge",)),
    ("in", ("onion", "fridge")),
    ("raw", ("onion",)),
    ("at", ("chest", "kitchen")),
    ("closed", ("chest",)),
    ("in", ("key", "chest")),
    ("at", ("table", "kitchen")),
    ("on", ("cookbook", "table")),
    ("at", ("spade", "garden")),
    ("in", ("knife", "I")),
    ("edible", ("onion",)),
]

WORDS = (
    "kitchen; exit north (screen door, closed); exit west; chest (closed); fridge (open, holds onion (raw)); "
    "table (cookbook on it); carrying knife"
)


def test_facts_in_words() -> None:
    """The room, its exits and doors, what is in it and carried; nothing of a closed chest or of another room."""
    assert describe_facts(FACTS) == WORDS


def test_the_order_of_facts_is_not_told() -> None:
    """A state is a set."""
    assert describe_facts(FACTS[::-1]) == WORDS


def test_the_player_must_be_somewhere() -> None:
    """Else the error says what is missing."""
    with pytest.raises(ValueError, match="where the player is"):
        describe_facts(FACTS[1:])


def test_commands_that_tell_nothing_new_are_left_out() -> None:
    """But a cookbook is there to be read."""
    commands = ["look", "inventory", "go west", "examine chest", "examine cookbook", "open chest", "go west"]
    assert useful_commands(commands, ["cookbook"], 8) == ("examine cookbook", "go west", "open chest")


def test_something_can_always_be_done() -> None:
    """Even where no command is worth it."""
    assert useful_commands(["look", "inventory"], [], 8) == ("look",)
    assert useful_commands([], [], 8) == ("look",)


def test_tidying_up_is_left_out_first() -> None:
    """Of five commands with room for three."""
    commands = ["drop key", "insert key into chest", "go west", "take onion", "close chest"]
    assert useful_commands(commands, [], 3) == ("drop key", "go west", "take onion")


def test_texts_lose_their_layout() -> None:
    """One line, without rules."""
    assert without_layout("Recipe #1\n---------\n  chop  the onion\n\n") == "Recipe #1 chop the onion"
    assert read_texts({"note": "go\nwest"}) == "note reads: go west"
    assert read_texts({}) == ""
