"""Atari's games and joystick in words, without the emulator."""

from __future__ import annotations

import re

DUELS = ("Boxing", "DoubleDunk", "IceHockey", "Pong", "Tennis")
"""Games whose score is the player's points less the opponent's."""

_FINGERS = (("UP", "up"), ("DOWN", "down"), ("LEFT", "left"), ("RIGHT", "right"))


def action_in_words(meaning: str) -> str:
    """Return what a joystick does in words: "UPRIGHTFIRE" is "up right and fire".

    Raises:
        ValueError: if the meaning is not one of the emulator's.
    """
    if meaning == "NOOP":
        return "do nothing"
    rest, parts = meaning, []
    for name, word in _FINGERS:
        if rest.startswith(name):
            rest = rest.removeprefix(name)
            parts.append(word)
    if rest not in ("", "FIRE") or not (parts or rest):
        raise ValueError(f"The emulator has no action {meaning!r}.")
    return " and ".join([" ".join(parts)] * bool(parts) + ["fire"] * bool(rest))


def game_of(env_id: str) -> str:
    """Return the game's name within an id: "ALE/SpaceInvaders-v5" is "SpaceInvaders"."""
    return env_id.partition("/")[2].partition("-")[0]


def instruction_for(game: str) -> str:
    """Return what to do in a game: "play Space Invaders: score points"."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z0-9])", " ", game)
    return f"play {name}: {'score more points than your opponent' if game in DUELS else 'score points'}"
