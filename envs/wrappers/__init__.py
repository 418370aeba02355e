"""Wrappers around language environments: several instructions, curricula, rewards for parts, changes midway, limits.

They are imported from `heed.envs`. This file imports none of them: `heed.envs.make` knows some, and others know it.
"""
