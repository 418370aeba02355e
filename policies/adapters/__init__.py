"""What trains instead of all weights: adapters, virtual tokens, learning rates by part."""
