"""`heed ablate`: variants of a training, with a component on or off, over several seeds: one table and one plot."""
