"""What holds for every test: no network, one thread, and the same examples each time: the same seed, the same run."""

import os
import sys
from multiprocessing import forkserver

# Set before any test module imports transformers, which reads it once.
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)

# One server forks all processes that tests start, of environments and of trainings. It begins with the first of them,
# whichever that is, and what it has not imported by then each of the others would import anew, which takes seconds.
forkserver.set_forkserver_preload(["heed.envs.vectorize.workers.worker", "heed.scripts.train", "heed.scripts.evaluate"])
forkserver.set_forkserver_preload = lambda modules_names: None

# Examples follow from the test's name, none is written to a disk, and a busy machine is no failure.
settings.register_profile(
    "heed",
    derandomize=True,
    database=None,
    deadline=None,
    print_blob=False,
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("heed")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Begin with one thread whatever the test before has set: commands choose their own number."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _trials_are_kept(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let agents share what each would find out about reading its model; tests of models find it out themselves."""
    if "heed.policies" in sys.modules and not {"policies", "gpu"} & set(request.path.parts):
        from tests.trials import keep_trials

        keep_trials(monkeypatch.setattr)
