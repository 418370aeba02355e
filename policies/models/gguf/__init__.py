"""Language models in GGUF files: converted once into folders that transformers loads; SmolLM2 from its package."""
