"""Where the words are with which an evaluation says instructions; a training's are in `heed.envs.wording`."""

from pathlib import Path

FOLDER = Path(__file__).parent
"""The folder of the YAML files."""
