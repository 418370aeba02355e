"""`heed memory`: what a training is going to need, before it begins."""
