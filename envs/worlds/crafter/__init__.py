"""Crafter in words."""
