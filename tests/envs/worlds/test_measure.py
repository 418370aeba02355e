"""Measuring an environment with random actions."""

from __future__ import annotations

import json

import pytest

from tools.measure_world import main, measure


def test_random_dives_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """Each dive has 10 steps and drifts to the right in five of them on average, for a tenth of a cent each."""
    measured = measure("Heed/DeepSea-v0", episodes=20)
    assert (measured.mean_length, measured.success, measured.instructions) == (10.0, 0.0, 1)
    assert -0.008 < measured.mean_return < -0.002
    assert measured.steps_per_second > 100
    main(["Heed/DeepSea-v0", "--episodes", "20"])
    told = json.loads(capsys.readouterr().out)
    assert told["mean_return"] == round(measured.mean_return, 4)
    with pytest.raises(ValueError, match="at least 1"):
        measure("Heed/DeepSea-v0", episodes=0)
