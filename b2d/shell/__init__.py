"""Detect the user's shell, and print the lines that set its environment."""
