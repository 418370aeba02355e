"""Auxiliary observations: numbers and pictures, brought to the hidden state."""
