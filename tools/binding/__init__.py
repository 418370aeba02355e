"""The pretraining of `heed-words`: scenes of words, and questions about them (`python -m tools.binding`)."""
