"""MiniWoB++ in words: small tasks on real web pages."""
