"""MiniWorld in words: rooms in three dimensions."""
