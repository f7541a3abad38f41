"""The command line: a module for each family of verbs, each loaded when one of its verbs is used."""
