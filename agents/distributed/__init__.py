"""Several processes that train one agent together: ranks, what they count together, threads."""
