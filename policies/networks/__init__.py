"""Networks from prompts to features and action scores, one for each way of reading, over a backbone."""
