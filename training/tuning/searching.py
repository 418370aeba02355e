"""The trials of a search: what was begun goes on, what lags behind is pruned, and every trial stays in a journal."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heed.training.ablation.plan import Training
from heed.training.ablation.running import Interrupted, train_one
from heed.training.errors import ConfigurationError
from heed.training.run_folder import RunFolder
from heed.training.tuning.plan import METRICS, Search

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

JOURNAL = "study.log"
LOOKS = 10
"""How often in a training it is looked whether its curve lags behind."""
UNPRUNED_TRIALS, UNPRUNED_LOOKS = 5, 2
"""So many trials, and of every training so many looks, are never pruned."""
FOLDER, REASON, STEPS, PLAN = "folder", "reason", "steps", "plan"
"""What the journal keeps beside optuna's own."""


class _FailedError(Exception):
    """A training of a trial came to nothing."""


class _Pruned(Exception):  # noqa: N818 - it is no error
    """A trial lags behind the median of those before it."""


def require_optuna() -> None:
    """Refuse to search without optuna.

    Raises:
        ConfigurationError: saying how to install it.
    """
    try:
        import optuna
    except ImportError:
        raise ConfigurationError("heed tune needs optuna: pip install 'heed[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def open_study(out: Path, search: Search, *, seed: int, prune: bool) -> Study:
    """Open the search's journal, or begin one; what was begun and not ended is put first again.

    Raises:
        ConfigurationError: if the folder holds another search.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend

    out.mkdir(parents=True, exist_ok=True)
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(out / JOURNAL)))
    study = optuna.create_study(
        storage=storage, study_name="heed tune", direction="maximize", load_if_exists=True, sampler=None
    )
    # Of trials that went on, the sampler knows all; what it draws after a stop is other than without.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))
    median = optuna.pruners.MedianPruner(n_startup_trials=UNPRUNED_TRIALS, n_warmup_steps=UNPRUNED_LOOKS)
    study.pruner = median if prune else optuna.pruners.NopPruner()
    plan = json.loads(json.dumps(search.as_json()))
    if study.user_attrs.get(PLAN, plan) != plan:
        raise ConfigurationError(f"{out} holds a search of another plan: give another --out, or remove the folder.")
    study.set_user_attr(PLAN, plan)
    waiting = {trial.user_attrs.get(FOLDER) for trial in study.trials if trial.state.name == "WAITING"}
    for trial in study.trials:
        if trial.state.name == "RUNNING":
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            folder = trial.user_attrs.get(FOLDER)
            if folder is not None and folder not in waiting:
                study.enqueue_trial(trial.params, user_attrs={FOLDER: folder})
    return study


def ended(study: Study) -> list[FrozenTrial]:
    """Return the trials that came to their end: complete, pruned, or failed and not to be continued."""
    newest = {trial.user_attrs[FOLDER]: trial.number for trial in study.trials if FOLDER in trial.user_attrs}
    return [
        trial
        for trial in study.trials
        if trial.state.is_finished() and newest.get(trial.user_attrs.get(FOLDER)) == trial.number
    ]


def run_trials(
    study: Study, search: Search, out: Path, *, trials: int, jobs: int, on_end: Callable[[FrozenTrial], None]
) -> None:
    """Run trials until there are so many.

    Args:
        study: of `open_study`.
        search: what is searched.
        out: the search's folder.
        trials: how many there are to be, those that ended before among them.
        jobs: how many run side by side, each on its share of the processor's cores.
        on_end: is told of each that has come to its end.

    Raises:
        KeyboardInterrupt: on Ctrl-C, or if a training was ended by a signal; the same command goes on.
    """
    from optuna.trial import TrialState

    left = trials - len(ended(study))
    pending: dict[concurrent.futures.Future[float], Trial] = {}
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        try:
            while left > 0 or pending:
                while left > 0 and len(pending) < jobs:
                    left -= 1
                    trial = study.ask()
                    folder = trial.user_attrs.get(FOLDER, f"trial-{trial.number:04d}")
                    values = {name: of.suggest(trial, name) for name, of in search.space.items()}
                    trial.set_user_attr(FOLDER, folder)
                    pending[pool.submit(_run, trial, values, search, out / "runs" / folder, jobs)] = trial
                done, _ = concurrent.futures.wait(pending, return_when=concurrent.futures.FIRST_COMPLETED)
                for future in done:
                    trial = pending.pop(future)
                    try:
                        told = study.tell(trial, future.result())
                    except _Pruned:
                        told = study.tell(trial, state=TrialState.PRUNED)
                    except _FailedError as error:
                        trial.set_user_attr(REASON, str(error))
                        told = study.tell(trial, state=TrialState.FAIL)
                    on_end(told)
        except (KeyboardInterrupt, Interrupted):
            pool.shutdown(wait=True, cancel_futures=True)  # the trainings were interrupted as well, and save
            raise KeyboardInterrupt from None


def _run(trial: Trial, values: dict[str, Any], search: Search, folder: Path, jobs: int) -> float:
    """Train with each seed, one after the other; return the mean of what they reached."""
    reached: list[float] = []
    steps: list[float] = []
    try:
        trainings = search.trainings(values, folder)
    except ConfigurationError as error:
        raise _FailedError(str(error)) from None
    for training in trainings:
        looks = _Looks(trial, training, METRICS[search.metric], tuple(reached))
        failure = train_one(training, jobs, unless=looks.lags)
        if failure is not None:
            raise _FailedError(failure.reason)
        if looks.has_lagged:
            raise _Pruned
        looks.report()
        steps_now, value = _newest(training, search.metric)
        reached.append(value)
        steps.append(steps_now)
    trial.set_user_attr(STEPS, sum(steps) / len(steps))
    return sum(reached) / len(reached)


class _Looks:
    """Looks at a training's curve while it goes on, and tells its trial.

    Args:
        trial: of the training.
        training: one of its seeds.
        key: of the curve.
        reached: what the seeds before it have reached. A trial is compared with what others had at the same place.
    """

    def __init__(self, trial: Trial, training: Training, key: str, reached: tuple[float, ...]):
        self.has_lagged = False
        self._trial = trial
        self._run = RunFolder(training.folder)
        self._whole = training.config.resolved().steps or 1
        self._key = key
        self._reached = reached
        self._seen = 0

    def lags(self) -> bool:
        """Report what is new; say whether the trial lags behind."""
        self.report()
        self.has_lagged = self._trial.should_prune()
        return self.has_lagged

    def report(self) -> None:
        """Report the first value from each tenth of the steps on, if it is there."""
        for point in self._run.read_curve():
            look = min(LOOKS - 1, int(point["steps"] * LOOKS / self._whole))
            if self._key in point and look > self._seen:
                self._seen = look
                mean = (sum(self._reached) + point[self._key]) / (len(self._reached) + 1)
                self._trial.report(mean, len(self._reached) * LOOKS + look)


def _newest(training: Training, metric: str) -> tuple[float, float]:
    """Return the last point's steps and value.

    Raises:
        _FailedError: if the curve does not know it.
    """
    curve = RunFolder(training.folder).read_curve()
    points = [point for point in curve if METRICS[metric] in point]
    if not points:
        other = "" if metric == "return" else ", or the environment tells of no success: search with `metric: return`"
        raise _FailedError(f"the curve of {training.folder} has no {metric}: no episode came to its end{other}")
    return points[-1]["steps"], points[-1][METRICS[metric]]


@contextlib.contextmanager
def told_how_to_go_on(command: str) -> Iterator[None]:
    """Say, on Ctrl-C, how the search goes on.

    Raises:
        SystemExit: in its place.
    """
    try:
        yield
    except KeyboardInterrupt:
        print(f"\nStopped. The same command goes on: {command}")
        raise SystemExit(130) from None
