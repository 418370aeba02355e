"""Language models: loading, checking, tokenizers, the models that ship with Heed."""
