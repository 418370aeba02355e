"""What stands behind the last token of a prompt."""

PADDING = -1
"""No tokenizer gives this id to a token."""
