"""Build an image from Debian's signed packages, by the recipe in iso/."""
