"""Modalities: what an observation holds besides text, how it is packed into a prompt's row, where it enters."""
