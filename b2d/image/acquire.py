"""How the newest image of a source comes to be kept: assembled here, fetched, or copied from a file."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from b2d.errors import ConfigError
from b2d.host.files import check_owner, private_folder
from b2d.image.image_store import ImageStore
from b2d.image.source import BOOT2DOCKER, DEBIAN, PIN, is_file, is_releases, pinned
from b2d.paths import Home
from b2d.reporting.base import Reporter

if TYPE_CHECKING:
    from b2d.image.build.builder import BuildRequest
    from b2d.image.releases import Release
    from b2d.models import Image


@dataclass(frozen=True, slots=True)
class ImageAcquirer:
    """Where images come from, into one home; `mirror` is that setting."""

    home: Home
    mirror: str
    reporter: Reporter
    allow_expired: bool = False  # take what may lack security updates, this once

    @property
    def images(self) -> ImageStore:
        """What is kept."""
        return ImageStore(self.home)

    def obtain(self, source: str) -> "Image":
        """Build or fetch the newest image of a source and keep it. Raises DownloadError; nothing is kept then."""
        check_owner(self.home.root)
        if source == DEBIAN:
            return self._build()
        if self.allow_expired:
            raise ConfigError(f"--allow-expired is of the source debian, and this is {source}", hint="b2d download")
        if is_file(source):
            return self.images.adopt(Path(source), source)
        return self._download(self._release(source), source)

    def update(self, source: str) -> tuple["Image", bool, str]:
        """The newest image of a source, whether it is new, and that in words; where nobody can be asked, what is kept.

        Raises DownloadError.
        """
        from b2d.network.http_client import ServerUnavailableError

        before = {image.sha256 for image in self.images.all()}
        try:
            image = self.obtain(source)
        except ServerUnavailableError as error:
            kept = self.images.find(source)
            if kept is None:
                raise
            return kept, False, f"what is kept, as no newer one could be asked for ({error.message})"
        known = image.sha256 in before
        return image, not known, "the newest already" if known else "kept"

    def first(self, source: str) -> "Image":
        """A file as it is now; of other sources what is kept, if anything is."""
        kept = None if is_file(source) else self.images.find(source)
        return kept or self.obtain(source)

    def build_to(self, architecture: str, output: Path) -> str:
        """Assemble b2d's own image at `output`, for whoever it is made for; its version. Raises B2dError.

        It is put together where no guest can reach it, and then copied.
        """
        from tempfile import TemporaryFile

        from b2d.host.files import os_errors_as_b2d_errors, write_atomic
        from b2d.image.build.builder import build_image, manifest_path
        from b2d.image.build.freshness import StaleIndexError

        with os_errors_as_b2d_errors(output):
            output.parent.mkdir(parents=True, exist_ok=True)
            TemporaryFile(dir=output.parent).close()  # before minutes are spent on it
        with self._request(architecture) as request:
            try:
                built = build_image(request, self.reporter)
            except StaleIndexError as error:
                error.hint = error.hint.replace("b2d download", "b2d iso build")
                raise
            with os_errors_as_b2d_errors(output):
                for source, target in ((manifest_path(built.path), manifest_path(output)), (built.path, output)):
                    with source.open("rb") as file:
                        write_atomic(target, file, 0o644)
        return built.version

    @contextmanager
    def _request(self, architecture: str) -> "Iterator[BuildRequest]":
        """What is to be built, in a folder that is gone after the block: two may build at once."""
        from tempfile import TemporaryDirectory

        from b2d.image.build.builder import BuildRequest

        with TemporaryDirectory(dir=private_folder(self.home.cache), prefix=".b2d-") as folder:
            yield BuildRequest(
                architecture,
                self.mirror,
                self.home.cache,
                Path(folder) / "b2d.iso",
                dates=self.home.suite_dates,
                kept=stored_iso(self.images),
                allow_expired=self.allow_expired,
            )

    def _build(self) -> "Image":
        """What would come out as it is kept is not built."""
        from b2d.host.files import read_text_tail, write_atomic
        from b2d.image.build.builder import assemble_image, plan

        with self._request("amd64") as request:
            gathered = plan(request, self.reporter)
            made_of, _, sha256 = read_text_tail(self.home.last_build).partition(" ")
            if made_of == gathered.ingredients and (kept := self.images.sound(sha256)):
                return self._newest_again(kept, DEBIAN)
            iso = assemble_image(gathered, self.reporter).path
            with self.reporter.step("keeping the image"):
                image = self.images.take(iso, DEBIAN)
        write_atomic(self.home.last_build, f"{gathered.ingredients} {image.sha256}".encode())
        return image

    def _release(self, source: str) -> "Release":
        """What is to be had from a source on the network. Raises DownloadError for what nothing could verify."""
        from dataclasses import replace

        from b2d.image import releases

        check_verifiable(source)
        if source == BOOT2DOCKER and self.images.find(source) is None:
            return releases.boot2docker_release(self.home.cache, self.reporter)
        if source == BOOT2DOCKER:
            return releases.newest_release(self.home.cache)
        address, sha256 = pinned(source)
        if not is_releases(address):
            return releases.Release("", address, sha256)
        release = releases.newest_release(self.home.cache, address)
        return replace(release, sha256=sha256) if sha256 else release

    def _download(self, release: "Release", source: str) -> "Image":
        from b2d.image import download
        from b2d.image.releases import check_label

        cache = self.home.cache
        with download.download_lock(release.url, cache, self.reporter):
            kept = self.images.sound(release.sha256 or download.last_download(release.url, cache))
            if kept and release.sha256:
                return self._newest_again(kept, source)
            known = kept.sha256 if kept else ""
            try:
                iso = download.download(release.url, cache, self.reporter, sha256=release.sha256, kept=known)
            except download.UnchangedError:
                return self._newest_again(self.images.get(known), source)
            try:
                if source == BOOT2DOCKER:
                    check_label(release, iso, self.reporter)
                return self.images.take(iso, source, release.version)
            finally:
                iso.unlink(missing_ok=True)

    def _newest_again(self, kept: "Image", source: str) -> "Image":
        """The kept one as the newest of `source`, whose newest may be another by now, or none."""
        newest = self.images.find(source)
        return newest if newest and newest.sha256 == kept.sha256 else self.images.adopt(kept.iso, source, kept.version)


def check_verifiable(source: str) -> None:
    """Raise DownloadError for an address by plain http without a hash: anybody on the way could send another image."""
    from b2d.errors import DownloadError
    from b2d.network.http_client import display_url

    if is_file(source) or source in (DEBIAN, BOOT2DOCKER):
        return
    address, sha256 = pinned(source)
    if not sha256 and not address.lower().startswith("https://"):
        shown = display_url(address)
        raise DownloadError(
            f"{shown} is not https, so nothing tells whether the image that comes is the right one",
            hint=f"give an address with https://, or the image's hash behind this one: '{shown}{PIN}HASH'",
        )


def stored_iso(images: ImageStore) -> Path | None:
    """Return the ISO of the newest kept image of Debian's packages."""
    kept = images.find(DEBIAN)
    return kept.iso if kept is not None else None
