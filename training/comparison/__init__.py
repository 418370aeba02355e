"""`heed compare`: what trainings have learned, side by side: a table, a picture, and the numbers behind them.

Runs that differ in nothing but their seed are one group: a figure of one training says little, since the next seed's
may be far from it. So each group shows its mean and every single run.
"""
