"""What is kept while weights stand still: readings, prefixes, frozen layers; which prompts are read together."""
