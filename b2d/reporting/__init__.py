"""What is shown to a person: text that no terminal obeys."""
