"""What is computed with each kind of language model: hidden states, features and action scores."""
