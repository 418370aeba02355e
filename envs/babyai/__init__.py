"""BabyAI and MiniGrid in words: verbalizer, expert, instructions and their grammar."""
