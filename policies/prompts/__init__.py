"""From words to token ids: templates, tokens, and the layout of a prompt's row."""
