"""TextWorld in words."""
