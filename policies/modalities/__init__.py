"""Modalities: what an observation holds beside its words, how it is packed into a prompt's row, and where it enters."""
