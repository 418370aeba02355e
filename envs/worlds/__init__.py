"""Worlds of other libraries in words, each behind an extra and imported only where one of its ids is made."""
