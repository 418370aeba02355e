"""Prompts whose first line is the instruction, so that what reads them can tell it from what is seen."""

from __future__ import annotations

import re
from typing import Any

from transformers import PreTrainedTokenizerBase

from heed.policies.prompts.prompt import PromptEncoder
from heed.policies.prompts.template import Chat, PromptTemplate, Template, shortened


class LinesEncoder(PromptEncoder):
    """Turns language observations into prompts whose first line is the instruction.

    Args:
        tokenizer: of the language model.
        template: a plain one: its first line holds the instruction, and the observation comes behind that.
        more: as of a `PromptEncoder`.

    Raises:
        ValueError: if the template is not such a one.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, template: Template, **more: Any):
        super().__init__(tokenizer, template=instruction_first(template, tokenizer), **more)

    def as_written(self, instruction: str, observation: str) -> tuple[str, str]:
        """Return both as they stand in the template: line breaks within the instruction become spaces."""
        return re.sub(r"[\r\n]", " ", instruction), observation


def instruction_first(template: Template, tokenizer: PreTrainedTokenizerBase) -> PromptTemplate:
    """Return a template whose first line holds the instruction, and the observation comes behind that.

    Raises:
        ValueError: if it is not such a one.
    """
    plain = template.template(tokenizer) if isinstance(template, Chat) else PromptTemplate.of(template)
    first, _, rest = plain.text.partition("\n")
    if plain.syntax != "plain" or "{observation}" in first or "{instruction}" in rest:
        raise ValueError(
            f"The prompt template {shortened(plain.text)} does not fit a model that tells instruction and observation "
            "apart: its first line holds the instruction, and the observation comes behind that line."
        )
    return plain
