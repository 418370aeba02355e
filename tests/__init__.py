"""Tests. A package, since opensimplex, which Crafter needs, installs one of the same name that would hide a folder."""
