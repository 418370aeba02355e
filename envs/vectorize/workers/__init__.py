"""Environments in worker processes: what they are asked, how they are started, watched and replaced."""
