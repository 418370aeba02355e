"""`make test-gpu` says so where there is no card, finds Heed without installing it, and names what is missing."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from tests.gpu import run


def test_without_a_card_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(run, "_sees_card", lambda: False)
    work = tmp_path / "work"
    assert run.main(["--work", str(work), "--out", str(tmp_path / "out")]) == 0
    assert "There is no CUDA card here. Nothing was tested or measured" in capsys.readouterr().out
    assert not any(tmp_path.iterdir())
    monkeypatch.setattr(run, "_sees_card", lambda: True)
    assert "cannot use it" in str(run.why_no_card())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert run.why_no_card() is None


def wheel(folder: Path, name: str, version: str) -> None:
    """Make a wheel of a package with nothing but its version in it."""
    folder.mkdir(exist_ok=True)
    information = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{name}.py", f"VERSION = {version!r}\n")
        archive.writestr(f"{information}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{information}/RECORD", "")


def test_heed_and_the_wheels_that_are_missing_are_on_the_path(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheel(wheels, "heed_carried", "1.5")
    wheel(wheels, "numpy", "2.0.0")  # it is there
    site = run.prepare(tmp_path / "work", wheels)
    assert {path.name for path in site.iterdir()} >= {"heed", "heed_carried.py"}
    assert not (site / "numpy.py").exists()
    told = "import heed.envs.demonstrations.packed_array as found, heed_carried; print(found.__file__)"
    command = [sys.executable, "-c", told]
    environment = {**run.environment_of(site, "cpu"), "PYTHONSAFEPATH": "1"}
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert found.stdout.strip() == str(site / "heed" / "envs" / "demonstrations" / "packed_array.py")
    assert environment["PYTHONPATH"].split(os.pathsep)[0] == str(site)
    assert run.what_is_missing(site) == []


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(run, "requirements", lambda: ["torch >=2.8", "torch >=99", "nothing-of-this-name >=1"])
    assert run.what_is_missing(tmp_path) == [f"torch >=99 (it has {torch.__version__})", "nothing-of-this-name >=1"]


def test_its_time_is_bounded_and_its_tests_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.run([sys.executable, "-c", "import time; time.sleep(60)"], dict(os.environ), 0.2) == 124
    assert "took longer" in capsys.readouterr().out
    assert run.TEST_SECONDS + run.BENCHMARK_SECONDS < 8 * 60
    report = tmp_path / "tests.xml"
    assert "did not come" in run.summary_of(report)
    report.write_text('<testsuites><testsuite tests="9" failures="1" errors="1" skipped="2"/></testsuites>')
    assert run.summary_of(report) == "5 passed, 2 failed, 2 skipped"
