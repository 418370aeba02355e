"""Atari games in words."""
