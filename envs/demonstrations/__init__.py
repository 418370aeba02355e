"""Demonstrations: episodes in words, how they are played, and their file."""
