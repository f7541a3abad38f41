"""Obtain the newest image of a source: build it, download it, or copy it from a file."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from b2d.errors import ConfigError
from b2d.host.files import check_owner, private_folder
from b2d.image.image_store import ImageStore
from b2d.image.source import BOOT2DOCKER, DEBIAN, PIN, is_file, is_releases, split_hash
from b2d.paths import Home
from b2d.reporting.base import Reporter

if TYPE_CHECKING:
    from b2d.image.build.builder import BuildRequest
    from b2d.image.releases import Release
    from b2d.models import Image


@dataclass(frozen=True, slots=True)
class ImageAcquirer:
    """A source of images for one home; `mirror` is the setting of that name."""

    home: Home
    mirror: str
    reporter: Reporter
    allow_expired: bool = False  # accept packages that may lack security updates

    @property
    def images(self) -> ImageStore:
        """The images of the home."""
        return ImageStore(self.home)

    def obtain(self, source: str) -> "Image":
        """Build or download the newest image of a source and store it.

        Raises ImageError, and stores nothing then.
        """
        check_owner(self.home.root)
        if source == DEBIAN:
            return self._build()
        if self.allow_expired:
            raise ConfigError(
                f"--allow-expired works with the source debian only, not with {source}", hint="b2d download"
            )
        if is_file(source):
            return self.images.add_copy(Path(source), source)
        return self._download(self._release(source), source)

    def update(self, source: str) -> tuple["Image", bool, str]:
        """Return the newest image of a source, whether it is new, and that as text.

        The newest stored image where no server can be reached. Raises ImageError.
        """
        from b2d.network.http_client import ServerUnavailableError

        before = {image.sha256 for image in self.images.all()}
        try:
            image = self.obtain(source)
        except ServerUnavailableError as error:
            stored = self.images.find(source)
            if stored is None:
                raise
            return stored, False, f"the newest stored image, and a newer one is unknown ({error.message})"
        is_known = image.sha256 in before
        return image, not is_known, "already the newest" if is_known else "stored"

    def ensure(self, source: str) -> "Image":
        """Return a file as it is now; of another source the newest stored image, or obtain one."""
        stored = None if is_file(source) else self.images.find(source)
        return stored or self.obtain(source)

    def build_to(self, architecture: str, output: Path) -> str:
        """Build b2d's own image at `output`, for any use, and return its version. Raises B2dError.

        It is built where no guest can reach it, and then copied.
        """
        from tempfile import TemporaryFile

        from b2d.host.files import os_errors_as_b2d_errors, write_atomic
        from b2d.image.build.builder import build_image, manifest_path
        from b2d.image.build.freshness import StaleIndexError

        with os_errors_as_b2d_errors(output):
            output.parent.mkdir(parents=True, exist_ok=True)
            TemporaryFile(dir=output.parent).close()  # fail before minutes are spent
        with self._request(architecture) as request:
            try:
                built = build_image(request, self.reporter)
            except StaleIndexError as error:
                raise error.replace(hint=error.hint.replace("b2d download", "b2d iso build")) from error
            with os_errors_as_b2d_errors(output):
                for source, target in ((manifest_path(built.path), manifest_path(output)), (built.path, output)):
                    with source.open("rb") as file:
                        write_atomic(target, file, 0o644)
        return built.version

    @contextmanager
    def _request(self, architecture: str) -> "Iterator[BuildRequest]":
        """Yield a request to build in a temporary folder, so that two builds may run at once."""
        from tempfile import TemporaryDirectory

        from b2d.image.build.builder import BuildRequest

        with TemporaryDirectory(dir=private_folder(self.home.cache), prefix=".b2d-") as folder:
            yield BuildRequest(
                architecture,
                self.mirror,
                self.home.cache,
                Path(folder) / "b2d.iso",
                dates=self.home.suite_dates,
                stored_iso=stored_iso(self.images),
                allow_expired=self.allow_expired,
            )

    def _build(self) -> "Image":
        """Build and store the image of Debian's packages, unless the same is stored already."""
        from b2d.host.files import read_text_tail, write_atomic
        from b2d.image.build.builder import assemble_image, plan_build

        with self._request("amd64") as request:
            plan = plan_build(request, self.reporter)
            fingerprint, _, sha256 = read_text_tail(self.home.last_build).partition(" ")
            if fingerprint == plan.fingerprint and (stored := self.images.get_intact(sha256)):
                return self._mark_newest(stored, DEBIAN)
            iso = assemble_image(plan, self.reporter).path
            with self.reporter.step("storing the image"):
                image = self.images.add_move(iso, DEBIAN)
        write_atomic(self.home.last_build, f"{plan.fingerprint} {image.sha256}".encode())
        return image

    def _release(self, source: str) -> "Release":
        """Return the newest release of a source. Raises ImageError for one that cannot be verified."""
        from dataclasses import replace

        from b2d.image import releases

        check_verifiable(source)
        if source == BOOT2DOCKER and self.images.find(source) is None:
            return releases.boot2docker_release(self.home.cache, self.reporter)
        if source == BOOT2DOCKER:
            return releases.newest_release(self.home.cache)
        address, sha256 = split_hash(source)
        if not is_releases(address):
            return releases.Release("", address, sha256)
        release = releases.newest_release(self.home.cache, address)
        return replace(release, sha256=sha256) if sha256 else release

    def _download(self, release: "Release", source: str) -> "Image":
        from b2d.image.download import IsoDownload
        from b2d.image.releases import check_label
        from b2d.network.download import UnchangedError

        download = IsoDownload(release.url, self.home.cache)
        with download.lock(self.reporter):
            stored = self.images.get_intact(release.sha256 or download.last()[0])
            if stored and release.sha256:
                return self._mark_newest(stored, source)
            known = stored.sha256 if stored else ""
            try:
                iso = download.run(self.reporter, sha256=release.sha256, stored=known)
            except UnchangedError:
                return self._mark_newest(self.images.get(known), source)
            try:
                if source == BOOT2DOCKER:
                    check_label(release, iso, self.reporter)
                return self.images.add_move(iso, source, release.version)
            finally:
                iso.unlink(missing_ok=True)

    def _mark_newest(self, stored: "Image", source: str) -> "Image":
        """Return the stored image as the newest of `source`, where another may be recorded as such."""
        newest = self.images.find(source)
        if newest and newest.sha256 == stored.sha256:
            return newest
        return self.images.add_copy(stored.iso, source, stored.version)


def check_verifiable(source: str) -> None:
    """Raise ImageError for a plain http address without a hash.

    Anyone on the path could send another image.
    """
    from b2d.errors import ImageError
    from b2d.network.http_client import display_url

    if is_file(source) or source in (DEBIAN, BOOT2DOCKER):
        return
    address, sha256 = split_hash(source)
    if not sha256 and not address.lower().startswith("https://"):
        shown = display_url(address)
        raise ImageError(
            f"{shown} is not https, so the image cannot be verified",
            hint=f"use an address with https://, or append the image's hash: '{shown}{PIN}HASH'",
        )


def stored_iso(images: ImageStore) -> Path | None:
    """Return the ISO of the newest stored image of Debian's packages."""
    image = images.find(DEBIAN)
    return image.iso if image is not None else None
