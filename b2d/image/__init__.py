"""b2d's own image, assembled from signed Debian packages by the recipe in iso/."""
