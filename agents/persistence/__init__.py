"""How agents are saved and loaded: checkpoints without pickle, checked before they are used, and shared folders."""
