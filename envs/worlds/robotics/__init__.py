"""Gymnasium-Robotics in words."""
