"""Maintainers' tools, run from the repository, no part of the package: benchmark, pretraining, environment table."""
