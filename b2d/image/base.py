"""The interface of the images that are kept in a home."""

from typing import Protocol

from b2d.models import Image


class ImageLookup(Protocol):
    """The images of this home."""

    def find(self, source: str) -> Image | None:
        """The newest that is kept of a source, or None."""

    def get(self, sha256: str) -> Image:
        """The one of that hash. Raises B2dError, with what to type, when it is not kept."""

    def verify(self, image: Image) -> None:
        """Raise DownloadError unless the files are what they were when they were kept."""
