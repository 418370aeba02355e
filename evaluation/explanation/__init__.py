"""Why an agent did what it did: words that moved a decision, traced and recorded episodes."""
