"""What `make test-gpu` does: the tests of this folder on a CUDA card, then how fast it trains, and one table of both.

It runs with the Python that it is started with, on the torch that is there, and needs neither a network nor an
installed Heed: Heed's folders, and from `wheels/` what this Python lacks, are put on the path under `build/gpu`.
"""

from __future__ import annotations

import argparse
import configparser
import importlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("agents", "envs", "evaluation", "policies", "scripts", "training")
TEST_SECONDS, BENCHMARK_SECONDS = 230, 230
"""On a card at most; together with what starting takes, less than eight minutes."""
TRIED_SECONDS = 1800
"""The same of each on the processor."""


def main(arguments: list[str] | None = None) -> int:
    """Run all of it; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cpu tries all of it out in small, and writes no figures")
    parser.add_argument("--wheels", type=Path, default=ROOT / "wheels", help="folder of wheels for what is missing")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "gpu", help="folder for what is made on the way")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "performance", help="folder for gpu.json")
    options = parser.parse_args(arguments)
    on_cpu = options.device == "cpu"
    reason = None if on_cpu else why_no_card()
    if reason is not None:
        print(f"{reason} Nothing was tested or measured on one. `make test` runs the same tests on the processor.")
        return 0
    site = prepare(options.work, options.wheels)
    lacking = what_is_missing(site)
    if lacking:
        print(
            f"{sys.executable} lacks {', '.join(lacking)}: put wheels of them into {options.wheels} (`make gpu-wheels` "
            "downloads them where there is a network), or give another Python: make test-gpu GPU_PYTHON=python3.12."
        )
        return 2
    environment = environment_of(site, options.device)
    began = time.monotonic()
    report = options.work / "tests.xml"
    report.unlink(missing_ok=True)
    tests = [sys.executable, "-m", "pytest", "-q", "tests/gpu", f"--junit-xml={report}", "-p", "no:cacheprovider"]
    # Warnings are errors with the versions that `make` installs; others may warn of their own future.
    status = run([*tests, "-W", "default"], environment, TRIED_SECONDS if on_cpu else TEST_SECONDS)
    print(f"Tests on {options.device}: {summary_of(report)}, {time.monotonic() - began:.0f} s.", flush=True)
    command = [sys.executable, "-m", "tools.benchmark", "--sections", "gpu", "--device", options.device]
    command += ["--out", str(options.work / "benchmark"), "--threads", "1"]
    if on_cpu:
        command += ["--gpu-models", "heed-tiny", "tiny", "--gpu-product", "256", "--gpu-envs", "4", "--gpu-steps", "8"]
        command += ["--gpu-batch", "16", "--rollouts", "1"]
    measured = run(command, environment, TRIED_SECONDS if on_cpu else BENCHMARK_SECONDS)
    figures = options.work / "benchmark" / "gpu.json"
    if measured == 0 and not on_cpu:
        options.out.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(figures, options.out / figures.name)
        print(f"Figures: {options.out / figures.name}")
    print(f"All of it: {time.monotonic() - began:.0f} s.")
    return status or measured


def why_no_card() -> str | None:
    """Return why nothing can be computed on a CUDA card, in a sentence; None where it can."""
    try:
        import torch
    except ImportError as error:
        return f"There is no PyTorch in {sys.executable} ({error})." if _sees_card() else "There is no CUDA card here."
    if torch.cuda.is_available():
        return None
    if _sees_card():
        return f"There is a CUDA card here, but PyTorch {torch.__version__} of {sys.executable} cannot use it."
    return "There is no CUDA card here."


def _sees_card() -> bool:
    return shutil.which("nvidia-smi") is not None or Path("/dev/nvidiactl").exists()


def prepare(work: Path, wheels: Path) -> Path:
    """Put Heed's folders, and the wheels of what this Python lacks, into a folder for the path; return it."""
    site = work / "site"
    shutil.rmtree(site, ignore_errors=True)
    (site / "heed").mkdir(parents=True)
    for package in PACKAGES:
        (site / "heed" / package).symlink_to(ROOT / package, target_is_directory=True)
    setup = _setup()
    version = setup["metadata"]["version"]
    information = site / f"heed-{version}.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: heed\nVersion: {version}\n", encoding="utf-8")
    needed = [wheel for wheel in sorted(wheels.glob("*.whl")) if not _is_there(wheel)]
    if needed:
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
        subprocess.run([*install, "--target", str(site), *map(str, needed)], check=True)
    return site


def _is_there(wheel: Path) -> bool:
    """Say whether this Python has the package of a wheel, in a version that Heed can use."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name, parse_wheel_filename

    name, _, _, _ = parse_wheel_filename(wheel.name)
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    wanted = (Requirement(line) for line in requirements())
    return all(version in one.specifier for one in wanted if canonicalize_name(one.name) == name)


def what_is_missing(site: Path) -> list[str]:
    """Return the requirements of Heed that neither this Python nor `site` fulfils."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    there = {
        canonicalize_name(found.metadata["Name"]): found.version
        for found in importlib.metadata.distributions(path=[*sys.path, str(site)])
        if found.metadata["Name"]
    }
    missing = []
    for line in [*requirements(), "pytest >=8.3"]:
        one = Requirement(line)
        version = there.get(canonicalize_name(one.name))
        if version is None or version not in one.specifier:
            missing.append(line if version is None else f"{line} (it has {version})")
    return missing


def requirements() -> list[str]:
    """Return what Heed needs at least, as setup.cfg has it."""
    return [line for line in _setup()["options"]["install_requires"].splitlines() if line.strip()]


def _setup() -> configparser.ConfigParser:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    return setup


def environment_of(site: Path, device: str) -> dict[str, str]:
    """Return the environment in which tests and benchmark run."""
    paths = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": paths, "HEED_TEST_DEVICE": device, "HF_HUB_OFFLINE": "1"}


def run(command: Iterable[str], environment: dict[str, str], seconds: float) -> int:
    """Run a command from the repository's root; return its exit status, 124 where it took too long."""
    try:
        return subprocess.run([*command], cwd=ROOT, env=environment, timeout=seconds, check=False).returncode
    except subprocess.TimeoutExpired:
        print(f"It took longer than {seconds:.0f} s and was ended.")
        return 124


def summary_of(report: Path) -> str:
    """Return how many tests passed, failed and were skipped."""
    if not report.is_file():
        return "they did not come to their end"
    (suite,) = ElementTree.parse(report).getroot().iter("testsuite")
    counts = {name: int(suite.get(name, "0")) for name in ("tests", "failures", "errors", "skipped")}
    failed = counts["failures"] + counts["errors"]
    return f"{counts['tests'] - failed - counts['skipped']} passed, {failed} failed, {counts['skipped']} skipped"


if __name__ == "__main__":
    sys.exit(main())
