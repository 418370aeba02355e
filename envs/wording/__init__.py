"""Training for words: an episode's instruction in other words, with typos, in other languages, or against false ones.

What trains is here, in `data/`; what evaluates is in `heed.evaluation.axes`. They share code, and no template, synonym,
filler, typo, language or text that poses as an instruction (`tests/envs/wording/test_held_out.py`).
"""
