"""Gymnasium's own environments in words."""
