"""The pages in docs/: the site builds, and what they name exists."""
