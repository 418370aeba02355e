"""What holds for every test: no network, and one thread, so that the same seed gives the same run."""

import os

# Set before any test module imports transformers, which reads it once.
os.environ["HF_HUB_OFFLINE"] = "1"

import torch

torch.set_num_threads(1)
