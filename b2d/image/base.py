"""The interface of the images in a home."""

from typing import Protocol

from b2d.models import Image


class ImageLookup(Protocol):
    """The images of a home."""

    def all(self) -> list[Image]:
        """Return each stored image once."""

    def find(self, source: str) -> Image | None:
        """Return the newest stored image of a source, or None."""

    def get(self, sha256: str) -> Image:
        """Return the image of a hash. Raises B2dError with a hint when it is not stored."""

    def verify(self, image: Image) -> None:
        """Raise ImageError unless the files are unchanged since they were stored."""
