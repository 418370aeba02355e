"""How many seconds a training has taken, step by step, across interruptions."""

from __future__ import annotations

import time

from heed.training.run_folder import RunFolder


class TrainingTime:
    """Writes into a run's `times.jsonl` how long the training took up to a step.

    It stands beside the curve and not in it, since the same seed gives the same curve but never the same seconds.

    Args:
        run: the run; what its file holds up to `steps` is gone on from, and what lies beyond is dropped.
        steps: the step at which the training begins or goes on.
    """

    def __init__(self, run: RunFolder, *, steps: int):
        run.cut_times(steps)
        earlier = run.read_times()
        self._before = earlier[-1]["seconds"] if earlier else 0.0
        self._began = time.monotonic()
        self._path = run.times

    def note(self, steps: int) -> None:
        """Write that the training is at `steps` now."""
        seconds = self._before + time.monotonic() - self._began
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f'{{"steps": {steps}, "seconds": {seconds:.3f}}}\n')
