"""Words for environments that do not speak: verbalizers, descriptions of any space, auxiliary observations."""
