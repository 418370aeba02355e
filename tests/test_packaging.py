"""The house rules: packages have one name, imports run one way, nothing unpickles, a wheel is complete."""

import ast
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGES = ("agents", "envs", "evaluation", "policies", "scripts", "training")

# For each package: the modules that it must not import, written as prefixes of dotted names. Imports run one way:
# scripts -> training -> evaluation -> agents -> policies, and all but policies know environments.
FORBIDDEN_IMPORTS = {
    "agents": ("heed.evaluation", "heed.training", "heed.scripts", "heed.envs", "tools"),
    "envs": (
        *("heed.agents", "heed.policies", "heed.evaluation", "heed.training", "heed.scripts", "tools"),
        *("torch", "transformers"),
    ),
    "evaluation": ("heed.training", "heed.scripts", "tools"),
    "policies": ("heed.agents", "heed.envs", "heed.evaluation", "heed.training", "heed.scripts", "tools"),
    "scripts": ("tools",),
    "training": ("heed.scripts", "tools"),
}
# The contract of a language environment, and demonstrations, are all that agents may know of `heed.envs`; but what puts
# agents to probes makes environments.
_CONTRACT = ("heed.envs.contract", "heed.envs.demonstrations")
ALLOWED_IMPORTS = {
    "agents": _CONTRACT,
    "agents/probing": (*_CONTRACT, "heed.envs.probes", "heed.envs.vectorize"),
}
MOST_MODULES = 15
"""Of a folder, its `__init__` among them: about a dozen, which a reader can hold in the head."""

# Whatever these load can run code, so that an agent from a stranger could.
UNPICKLING_MODULES = ("cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve")
UNPICKLING_CALLS = ("torch.load", "torch.save", "numpy.load", "np.load")


def is_within(module: str, prefixes: tuple[str, ...]) -> bool:
    """Whether a dotted name is one of the prefixes or stands below one."""
    return any(module == prefix or module.startswith(prefix + ".") for prefix in prefixes)


def imported_modules(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of all that a module imports, wherever in the module it does.

    `from heed.envs import contract` yields `heed.envs.contract`: what is imported may be a module. A relative
    import keeps its dots.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            origin = "." * node.level + (node.module or "")
            for alias in node.names:
                yield node.lineno, f"{origin}.{alias.name}"


def import_faults(folder: str, source: str) -> list[str]:
    """Say what a module in a folder of a package imports against the rules, one `line: name` each."""
    package = folder.split("/")[0]
    faults = []
    for line, module in imported_modules(ast.parse(source)):
        forbidden = is_within(module, FORBIDDEN_IMPORTS[package])
        allowed = is_within(module, ALLOWED_IMPORTS.get(folder, ALLOWED_IMPORTS.get(package, ())))
        not_by_its_name = module.startswith(".") or is_within(module, PACKAGES)
        unpickles = is_within(module, UNPICKLING_MODULES + UNPICKLING_CALLS)
        if (forbidden and not allowed) or not_by_its_name or unpickles:
            faults.append(f"{line}: {module}")
    return faults


def unpickling_calls(source: str) -> list[str]:
    """Say where a module mentions a function that pickles or unpickles, one `line: name` each."""
    return [
        f"{node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in UNPICKLING_CALLS
    ]


def python_files(package: str) -> list[Path]:
    """All modules of a package."""
    return sorted((REPOSITORY / package).rglob("*.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_bare_name_is_refused(package: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", f"import {package}"],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode != 0
    assert "ImportError" in result.stderr
    assert f"import `heed.{package}`, not `{package}`" in result.stderr


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_run_one_way(package: str) -> None:
    files = python_files(package)
    assert files
    folders = {file: file.parent.relative_to(REPOSITORY).as_posix() for file in files}
    faults = {file.name: import_faults(folder, file.read_text("utf-8")) for file, folder in folders.items()}
    assert {file: found for file, found in faults.items() if found} == {}


@pytest.mark.parametrize(
    ("folder", "source"),
    [
        ("policies", "import heed.agents"),
        ("policies", "from heed.envs.contract import check"),
        ("policies", "def build():\n    from heed.scripts import cli"),
        ("envs", "import torch.nn as nn"),
        ("envs", "from transformers import AutoModel"),
        ("agents", "from heed.envs import make"),
        ("agents/exploration", "from heed.envs import make"),
        ("agents/rollouts", "from heed.evaluation import evaluate"),
        ("evaluation/report", "from heed.training.run_folder import RunFolder"),
        ("training/memory", "from heed.scripts.train import main"),
        ("scripts", "from tools.benchmark import command"),
        ("training", "import tools.pretrain"),
        ("agents", "from heed import envs"),
        ("agents", "from heed.scripts.train import main"),
        ("scripts", "from .train import main"),
        ("scripts", "from . import train"),
        ("scripts", "from agents import ppo"),
        ("scripts", "import pickle"),
        ("scripts", "from torch import load"),
    ],
)
def test_import_against_the_rules_is_found(folder: str, source: str) -> None:
    assert len(import_faults(folder, source)) == 1


@pytest.mark.parametrize(
    ("folder", "source"),
    [
        ("agents", "from heed.envs.contract import check"),
        ("agents", "from heed.envs import contract"),
        ("evaluation/playing", "from heed.envs.make import make_env"),
        ("training/memory", "from heed.evaluation.report.data import EvaluationData"),
        ("agents", "from heed.envs.demonstrations.demonstrations import Demonstration"),
        ("envs", "import torchvision_is_another_module"),
        ("scripts", "from heed.agents import ppo"),
        ("policies", "import torch"),
    ],
)
def test_import_within_the_rules_passes(folder: str, source: str) -> None:
    assert import_faults(folder, source) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_a_folder_holds_one_subject(package: str) -> None:
    crowded = {
        folder.relative_to(REPOSITORY).as_posix(): len(list(folder.glob("*.py")))
        for folder in {file.parent for file in python_files(package)}
        if len(list(folder.glob("*.py"))) > MOST_MODULES
    }
    assert crowded == {}


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_unpickles(package: str) -> None:
    calls = {file.name: unpickling_calls(file.read_text("utf-8")) for file in python_files(package)}
    assert {file: found for file, found in calls.items() if found} == {}


def test_unpickling_is_found() -> None:
    assert unpickling_calls("import torch\nweights = torch.load(path)") == ["2: torch.load"]


def test_wheel_is_complete(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    # Build elsewhere, from links: setuptools leaves build/ behind and would pack a stale one.
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", *PACKAGES):
        if (REPOSITORY / name).exists():
            (source / name).symlink_to(REPOSITORY / name)
    command = "pip wheel --quiet --disable-pip-version-check --no-index --no-build-isolation --no-deps"
    subprocess.run([sys.executable, "-m", *command.split(), "--wheel-dir", tmp_path, source], check=True)
    (wheel,) = tmp_path.glob("heed-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("heed/")}
        (information,) = {name.split("/")[0] for name in archive.namelist()} - {"heed"}
        entry_points = archive.read(f"{information}/entry_points.txt").decode()
        metadata = archive.read(f"{information}/METADATA").decode()

    files = [file for package in PACKAGES for file in python_files(package)]
    files += [REPOSITORY / package / "py.typed" for package in PACKAGES]
    files += [file for package in PACKAGES for file in (REPOSITORY / package).rglob("*.yaml")]
    files += (REPOSITORY / "envs").rglob("*.js")
    for model in ("heed_tiny", "heed_words"):
        files += (REPOSITORY / "policies" / "models" / model).glob("*.*")
    files += [REPOSITORY / "training" / "sharing" / "model_card.md"]
    files += [file for package in PACKAGES for file in (REPOSITORY / package).rglob("templates/*.*")]
    assert packed == {f"heed/{file.relative_to(REPOSITORY).as_posix()}" for file in files}
    assert "heed/__init__.py" not in packed  # a namespace has none
    assert "heed = heed.scripts.cli:main" in entry_points
    assert "License-Expression: Apache-2.0\n" in metadata
