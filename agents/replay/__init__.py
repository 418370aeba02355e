"""Replay buffers of Q-learning: n-step returns, priorities, hindsight, demonstrations."""
