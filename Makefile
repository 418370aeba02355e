# make train   train the default agent, evaluate it, write its report
# make test    everything that must pass before a commit
# make test-all     the same with the tests that are marked `exhaustive`, and the worlds' own
# make test-worlds  the tests of the worlds that need libraries of their own, which it installs
# make test-gpu     what only a CUDA card can show, and how fast it is there (docs/performance.md)
# make gpu-wheels   what `make test-gpu` needs on a machine without a network, as wheels in wheels/
# make dev     the virtual environment with all development tools
# make docs    build the documentation into site/
# make format  let ruff format and fix what it can
# make clean   remove what was built; runs/ stays
#
# A stamp file inside .venv remembers each installation, so that a second call starts at once.

PYTHON ?= python3
PIP_INSTALL = .venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
INSTALLED = .venv/.installed
INSTALLED_DEV = .venv/.installed-dev
INSTALLED_WORLDS = .venv/.installed-worlds
REQUIREMENTS = setup.cfg pyproject.toml constraints.txt
# Compiled tests are kept even where an environment says not to: to compile them takes longer than to import torch.
PYTEST = PYTHONDONTWRITEBYTECODE= .venv/bin/pytest -q --numprocesses auto --maxprocesses 4 --dist loadfile
# Libraries of the worlds; docs/worlds/ says what they are, and what they need of the system.
WORLDS = atari,box2d,crafter,miniwob,miniworld,robotics,textworld

# What the tests of a GPU run with: any Python with torch and CUDA; Heed need not be installed in it.
GPU_PYTHON ?= $(if $(wildcard .venv/bin/python),.venv/bin/python,$(PYTHON))
GPU_DEVICE ?= cuda
# Packages that a machine with torch and transformers may lack, and for which Python they are downloaded.
GPU_WHEELS ?= accelerate cloudpickle docstring-parser farama-notifications gymnasium minigrid peft pygame-ce \
	stable-baselines3 typeguard tyro
GPU_PYTHON_VERSION ?= 3.12

.PHONY: train test test-all test-worlds test-gpu gpu-wheels dev docs format clean

train: $(INSTALLED)
	.venv/bin/heed train --env BabyAI-GoToLocal-v0 --run-dir runs/go-to-local

test: $(INSTALLED_DEV)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	$(PYTEST)

test-all: $(INSTALLED_WORLDS)
	.venv/bin/python -m tests.envs.worlds.system
	$(PYTEST) -m "exhaustive or not exhaustive"

test-worlds: $(INSTALLED_WORLDS)
	.venv/bin/python -m tests.envs.worlds.system
	$(PYTEST) -m "exhaustive or not exhaustive" tests/envs/worlds tests/evaluation/test_axes_worlds.py

test-gpu:
	$(GPU_PYTHON) tests/gpu/run.py --device $(GPU_DEVICE)

gpu-wheels:
	$(PYTHON) -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
		--python-version $(GPU_PYTHON_VERSION) --implementation cp $(foreach glibc,39 34 31 28 27 24 17,--platform manylinux_2_$(glibc)_x86_64) \
		--platform manylinux2014_x86_64 --constraint constraints.txt --dest wheels $(GPU_WHEELS)

dev: $(INSTALLED_DEV)

docs: $(INSTALLED_DEV)
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict

format: $(INSTALLED_DEV)
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

clean:
	rm -rf .venv build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 10) else "Heed needs Python 3.10 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv

$(INSTALLED): .venv/bin/python $(REQUIREMENTS)
	$(PIP_INSTALL) --editable .
	@touch $@

# The links show `heed` to tools that read files instead of importing them: mypy, pyright, mkdocstrings.
# They stand outside site-packages, because pip would write through them.
$(INSTALLED_DEV): .venv/bin/python $(REQUIREMENTS)
	$(PIP_INSTALL) --editable '.[dev,docs]'
	mkdir -p .venv/links/heed
	for folder in agents envs evaluation policies scripts training; do ln -sfn ../../../$$folder .venv/links/heed/$$folder; done
	@touch $(INSTALLED) $@

$(INSTALLED_WORLDS): $(INSTALLED_DEV)
	$(PIP_INSTALL) --editable '.[dev,docs,$(WORLDS)]'
	@touch $@
