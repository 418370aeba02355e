"""Axes that change the world: every entry of the table makes what it says, and the instructions stay BabyAI's."""

from __future__ import annotations

from typing import Any

import gymnasium
import pytest
import yaml
from minigrid.envs.babyai.core.verifier import OBJ_TYPES

from heed.envs.babyai.grammar import parse
from heed.envs.make import make_env
from heed.evaluation.axes import AxisDoesNotApplyError, axis
from heed.evaluation.axes.files import FOLDER

GO = "BabyAI-GoToLocal-v0"
WORLDS = yaml.safe_load((FOLDER / "worlds.yaml").read_text("utf-8"))


def things(env: gymnasium.Env[Any, Any]) -> int:
    """How many things that BabyAI speaks of are there, doors left out: their number goes with the rooms."""
    level: Any = env.unwrapped
    return sum(cell is not None and cell.type in OBJ_TYPES and cell.type != "door" for cell in level.grid.grid)


@pytest.mark.parametrize(("name", "env_id"), [(name, env_id) for name in WORLDS for env_id in WORLDS[name]])
def test_every_level_of_the_table_has_more_things_or_larger_rooms(name: str, env_id: str) -> None:
    plain, changed = make_env(env_id), axis(name).make_env(env_id)
    plain.reset(seed=0)
    _, info = changed.reset(seed=0)
    assert str(parse(info["instruction"])) == info["instruction"] == info["shown"]
    sizes = [env.unwrapped.room_size for env in (plain, changed)]  # type: ignore[attr-defined]
    if name == "larger-rooms":
        assert sizes[0] < sizes[1]
        assert abs(things(plain) - things(changed)) <= 1  # a level may draw one more
    else:
        assert sizes[0] == sizes[1]
        assert things(plain) < things(changed)


def test_arguments_of_ones_own_come_first() -> None:
    env = axis("larger-rooms", worlds={GO: {"room_size": 9}}).make_env(GO)
    assert env.unwrapped.room_size == 9  # type: ignore[attr-defined]
    other = axis("more-distractors", worlds={"BabyAI-PickupDist-v0": {"id": GO, "num_dists": 10}})
    env = other.make_env("BabyAI-PickupDist-v0")
    env.reset(seed=0)
    assert things(env) == 10


def test_a_level_that_takes_nothing_of_the_kind_says_so() -> None:
    with pytest.raises(AxisDoesNotApplyError, match=r"does not know .* BabyAI-PickupLoc-v0: give it some"):
        axis("more-distractors").make_env("BabyAI-PickupLoc-v0")
