"""Learning without a language model: a table of values, one row for each state."""
