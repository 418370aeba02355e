"""How the commands read their options: the command line, YAML files, name=value, and the panels of `--help`."""
