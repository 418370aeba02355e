"""Action texts and their scores: tries, log-likelihoods, actions that change."""
