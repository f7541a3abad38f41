"""Debian's archive: indexes verified against the pinned keys, and the packages that they list."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path, PurePosixPath
from typing import Any

from b2d.errors import DownloadError
from b2d.formats import compression, numbers
from b2d.host.files import read_bounded
from b2d.image.build.freshness import Freshness
from b2d.image.build.mirror import Mirror
from b2d.image.build.package_cache import HINT_MIRROR, Cache, RemoteFile, fetch_all, fetch_small
from b2d.image.build.recipe import Archive, Recipe
from b2d.image.build.signature import NotAnIndexError, verify
from b2d.models import Suite
from b2d.network.http_client import display_url
from b2d.reporting.base import Reporter

PACKED_LIMIT, INDEX_LIMIT = 128 << 20, 1 << 30  # bytes of an index; the largest, main's, has 9 MB, unpacked 55
VERSION_LIMIT = 200  # characters
SIZE_LIMIT = 4 << 30  # bytes of a file of an archive


@dataclass(frozen=True, slots=True)
class Package:
    """A .deb as the archive describes it."""

    name: str
    version: str
    depends: str
    file: RemoteFile


@dataclass(frozen=True, slots=True)
class Release:
    """The content of an InRelease file with a verified signature."""

    sha256: dict[str, tuple[str, int]]  # path: hash, size in bytes
    date: datetime
    valid_until: datetime | None
    suite: str


@dataclass(frozen=True, slots=True)
class PackageIndex:
    """The packages of an archive that a recipe may use: versions by package name, the newest first."""

    packages: dict[str, list[Package]]
    suites: tuple[Suite, ...]


def read_packages(
    recipe: Recipe, mirror: Mirror, architecture: str, cache: Cache, reporter: Reporter, freshness: Freshness
) -> PackageIndex:
    """Return the packages of every suite of the recipe.

    Raises DownloadError, and StaleIndexError for an index that is not fresh.
    """
    available: dict[str, list[Package]] = {}
    suites = []
    for archive in recipe.archives:
        release, suite = _release(recipe, mirror, archive, cache, freshness, reporter)
        suites.append(suite)
        if release is None:
            continue
        index = _index(release, recipe.component, architecture, mirror, archive)
        fetch_all([index], cache, reporter, f"index {archive.name}")
        text = _decompress(cache.path(index.sha256), index)
        for package in _parse(text, mirror, archive, _package_names(recipe)):
            available.setdefault(package.name, []).append(package)
    for versions in available.values():
        versions.sort(key=_version_key, reverse=True)
    return PackageIndex(available, tuple(suites))


def choose(names: Sequence[str], available: dict[str, list[Package]]) -> list[Package]:
    """Return the newest version of each package. Raises DownloadError naming one that the archive lacks."""
    chosen = []
    for name in names:
        if not available.get(name):
            raise DownloadError(f"the archive has no package {name}", hint="try another mirror, or upgrade b2d")
        chosen.append(available[name][0])
    return chosen


def kernel_package(meta: Package) -> str:
    """Return the name of the package that a kernel's meta package depends on. Raises DownloadError for none."""
    for dependency in meta.depends.split(","):
        name = dependency.split()[0] if dependency.split() else ""
        if name.startswith("linux-image-"):
            return name
    raise DownloadError(f"the package {meta.name} {meta.version} does not depend on a kernel")


def _release(
    recipe: Recipe, mirror: Mirror, archive: Archive, cache: Cache, freshness: Freshness, reporter: Reporter
) -> tuple[Release | None, Suite]:
    """Return a suite's verified index, None for an optional one that is missing, and the state of the suite."""
    name = PurePosixPath(archive.path).name
    url = mirror.url(archive.base, f"{archive.path}/InRelease")
    try:
        content = fetch_small(url, cache)
    except DownloadError as failure:
        if archive.required:
            raise
        return None, freshness.mark_missing(name, failure, reporter)
    address = display_url(url)
    release = _parse_release(verify(content, recipe.keys, address), address)
    if release.suite != name:
        raise DownloadError(f"{address} is signed, but for another suite: {release.suite}", hint=HINT_MIRROR)
    return release, freshness.judge(name, release.date, release.valid_until, reporter)


def _parse_release(text: bytes, url: str) -> Release:
    from debian.deb822 import Release as Stanza

    try:
        stanza: Any = Stanza(text)
        hashes = {
            entry["name"]: (entry["sha256"], numbers.parse(entry["size"], SIZE_LIMIT)) for entry in stanza["SHA256"]
        }
        until = stanza.get("Valid-Until")
        valid_until = _time(until) if until else None
        return Release(hashes, _time(stanza["Date"]), valid_until, stanza["Codename"])
    except (LookupError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise NotAnIndexError(
            f"{url} is not a complete archive index", hint=HINT_MIRROR, details=repr(error)
        ) from error


def _time(text: str) -> datetime:
    """Parse a date of RFC 5322; one without a zone is UTC, as Debian's are. Raises ValueError."""
    time = parsedate_to_datetime(text)
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _index(release: Release, component: str, architecture: str, mirror: Mirror, archive: Archive) -> RemoteFile:
    path = f"{component}/binary-{architecture}/Packages.xz"
    if path not in release.sha256:
        raise DownloadError(f"{archive.path} has no {path}", hint=HINT_MIRROR)
    sha256, size = release.sha256[path]
    # by hash: the file at the plain path may be replaced during the download
    folder = f"{component}/binary-{architecture}/by-hash/SHA256/{sha256}"
    return RemoteFile(f"index {archive.name}", mirror.url(archive.base, f"{archive.path}/{folder}"), size, sha256)


def _decompress(path: Path, index: RemoteFile) -> str:
    try:
        return compression.unxz(read_bounded(path, PACKED_LIMIT), INDEX_LIMIT).decode()
    except (compression.DecompressionError, UnicodeDecodeError, OSError) as error:
        raise DownloadError(f"{index.name} cannot be unpacked: {error}", hint=HINT_MIRROR) from error


def _package_names(recipe: Recipe) -> frozenset[str]:
    return frozenset((recipe.kernel_package, *recipe.root_packages, *recipe.medium_packages))


def _parse(text: str, mirror: Mirror, archive: Archive, names: frozenset[str]) -> Iterator[Package]:
    """Yield the packages of an index that a recipe may use.

    Only stanzas that may be needed are parsed: all 68 000 would take too long.
    """
    from debian.deb822 import Deb822

    for paragraph in text.split("\n\n"):
        name = paragraph.partition("\n")[0].removeprefix("Package: ")
        if name not in names and not name.startswith("linux-image-"):
            continue
        try:
            stanza = Deb822(paragraph)
            version = checked_version(stanza["Version"])
            deb = RemoteFile(
                name=f"{name} {version}",
                url=mirror.url(archive.base, stanza["Filename"]),
                size=numbers.parse(stanza["Size"], SIZE_LIMIT),
                sha256=stanza["SHA256"],
            )
            depends = stanza.get("Depends", "")
        except (LookupError, ValueError, TypeError, AttributeError) as error:
            message = f"the index {archive.name} has an invalid entry for the package {name[:100]}"
            raise NotAnIndexError(message, hint=HINT_MIRROR, details=repr(error)) from error
        yield Package(name, version, depends, deb)


def checked_version(text: str) -> str:
    """Return a version that Debian's comparison accepts.

    Raises ValueError for an invalid version and for one of more than VERSION_LIMIT characters.
    """
    from debian.debian_support import Version

    if len(text) > VERSION_LIMIT:
        raise ValueError(f"a version of {len(text)} characters")
    return str(Version(text))


def _version_key(package: Package) -> Any:
    from debian.debian_support import Version

    return Version(package.version), package.file.sha256
