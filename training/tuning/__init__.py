"""`heed tune`: a search over ranges of options, each trial ordinary runs, judged by their training curves."""
