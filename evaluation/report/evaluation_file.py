"""evaluation.json: `heed evaluate` writes it, and what compares or shares runs reads it."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from heed.agents.persistence.checkpoint import read_json
from heed.evaluation.playing.episode import EpisodesError
from heed.evaluation.report.data import VERSION, EvaluationData


def read_evaluation(path: Path) -> EvaluationData:
    """Read an evaluation.

    Raises:
        CheckpointError: if the file is missing or damaged.
        EpisodesError: if it is of another version of the format.
    """
    evaluation = read_json(path)
    if evaluation.get("version") != VERSION:
        raise EpisodesError(
            f"{path} is of version {evaluation.get('version')} of the format, but version {VERSION} is read: evaluate "
            "the run again with `heed evaluate`."
        )
    return cast(EvaluationData, evaluation)
