"""`python -m tools.benchmark`: how fast Heed is, against what else could be done and part by part.

Everything runs in one process, the ways that are compared in turn, again and again, so a machine that is slow for a
while is slow for all of them. Figures are medians with their quartiles; ratios are what to compare across machines.
"""
