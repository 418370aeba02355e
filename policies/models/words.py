"""`heed-words`: the language model that ships with Heed and is the default.

It knows words by their vectors of meaning and spelling, so it has no vocabulary of its own, and is pretrained to bind
what an instruction names to what is seen, on scenes of words from WordNet (`tools/binding`). `heed_words/` holds its
weights, its tokenizer, and a card with the command and the scores.
"""

from __future__ import annotations

from pathlib import Path

WORDS_FOLDER = Path(__file__).parent / "heed_words"
"""Where heed-words is, in the form that transformers saves and loads."""
