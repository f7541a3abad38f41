"""Debian's archive: a signed index, verified against the pinned keys, and the packages that it names."""

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
from b2d.image.build.package_cache import HINT_MIRROR, Cache, RemoteFile, get_all, get_small
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
    """One .deb as the archive describes it."""

    name: str
    version: str
    depends: str
    file: RemoteFile


@dataclass(frozen=True, slots=True)
class Release:
    """What an InRelease says, once its signature was verified."""

    sha256: dict[str, tuple[str, int]]  # path: hash, size in bytes
    date: datetime
    valid_until: datetime | None
    suite: str


@dataclass(frozen=True, slots=True)
class PackageIndex:
    """What an archive has of what a recipe could want: versions by package, the newest first."""

    packages: dict[str, list[Package]]
    suites: tuple[Suite, ...]


def packages(
    recipe: Recipe, mirror: Mirror, architecture: str, cache: Cache, reporter: Reporter, freshness: Freshness
) -> PackageIndex:
    """Read the index of every suite. Raises DownloadError, and StaleIndexError for one that is not fresh."""
    found: dict[str, list[Package]] = {}
    suites = []
    for archive in recipe.archives:
        release, suite = _release(recipe, mirror, archive, cache, freshness, reporter)
        suites.append(suite)
        if release is None:
            continue
        index = _index(release, recipe.component, architecture, mirror, archive)
        get_all([index], cache, reporter, f"index {archive.name}")
        text = _unpacked(cache.path(index.sha256), index)
        for package in _parse(text, mirror, archive, _names(recipe)):
            found.setdefault(package.name, []).append(package)
    for versions in found.values():
        versions.sort(key=_age, reverse=True)
    return PackageIndex(found, tuple(suites))


def choose(names: Sequence[str], available: dict[str, list[Package]]) -> list[Package]:
    """The newest of each name. Raises DownloadError naming one that the archive does not have."""
    chosen = []
    for name in names:
        if not available.get(name):
            raise DownloadError(f"the archive has no package {name}", hint="try another mirror, or upgrade b2d")
        chosen.append(available[name][0])
    return chosen


def kernel_of(meta: Package) -> str:
    """The package that a kernel's meta package stands for."""
    for dependency in meta.depends.split(","):
        name = dependency.split()[0] if dependency.split() else ""
        if name.startswith("linux-image-"):
            return name
    raise DownloadError(f"{meta.name} {meta.version} depends on no kernel")


def _release(
    recipe: Recipe, mirror: Mirror, archive: Archive, cache: Cache, freshness: Freshness, reporter: Reporter
) -> tuple[Release | None, Suite]:
    """Return a suite's verified index and how fresh it is; None for one that is not required and may be missing."""
    name = PurePosixPath(archive.path).name
    url = mirror.url(archive.base, f"{archive.path}/InRelease")
    try:
        content = get_small(url, cache)
    except DownloadError as failure:
        if archive.required:
            raise
        return None, freshness.missing(name, failure, reporter)
    told = display_url(url)
    release = _parse_release(verify(content, recipe.keys, told), told)
    if release.suite != name:
        raise DownloadError(f"{told} is signed, but it is of another suite: {release.suite}", hint=HINT_MIRROR)
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
        raise NotAnIndexError(f"{url} lacks what an index has", hint=HINT_MIRROR, details=repr(error)) from error


def _time(text: str) -> datetime:
    """Parse a date as RFC 5322 has it; Debian's are in UTC. Raises ValueError."""
    time = parsedate_to_datetime(text)
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _index(release: Release, component: str, architecture: str, mirror: Mirror, archive: Archive) -> RemoteFile:
    path = f"{component}/binary-{architecture}/Packages.xz"
    if path not in release.sha256:
        raise DownloadError(f"{archive.path} has no {path}", hint=HINT_MIRROR)
    sha256, size = release.sha256[path]
    # by its hash: the file of that name may be replaced while it is fetched
    folder = f"{component}/binary-{architecture}/by-hash/SHA256/{sha256}"
    return RemoteFile(f"index {archive.name}", mirror.url(archive.base, f"{archive.path}/{folder}"), size, sha256)


def _unpacked(path: Path, index: RemoteFile) -> str:
    try:
        return compression.unxz(read_bounded(path, PACKED_LIMIT), INDEX_LIMIT).decode()
    except (compression.DecompressionError, UnicodeDecodeError, OSError) as error:
        raise DownloadError(f"{index.name} cannot be unpacked: {error}", hint=HINT_MIRROR) from error


def _names(recipe: Recipe) -> frozenset[str]:
    return frozenset((recipe.kernel_package, *recipe.root_packages, *recipe.medium_packages))


def _parse(text: str, mirror: Mirror, archive: Archive, names: frozenset[str]) -> Iterator[Package]:
    """Of 68 000 stanzas only those that could be wanted are read: all of them would take long."""
    from debian.deb822 import Deb822

    for part in text.split("\n\n"):
        name = part.partition("\n")[0].removeprefix("Package: ")
        if name not in names and not name.startswith("linux-image-"):
            continue
        try:
            stanza = Deb822(part)
            version = checked_version(stanza["Version"])
            wanted = RemoteFile(
                name=f"{name} {version}",
                url=mirror.url(archive.base, stanza["Filename"]),
                size=numbers.parse(stanza["Size"], SIZE_LIMIT),
                sha256=stanza["SHA256"],
            )
            depends = stanza.get("Depends", "")
        except (LookupError, ValueError, TypeError, AttributeError) as error:
            said = f"the index {archive.name} does not say what a package is: {name[:100]}"
            raise NotAnIndexError(said, hint=HINT_MIRROR, details=repr(error)) from error
        yield Package(name, version, depends, wanted)


def checked_version(text: str) -> str:
    """Return a version that Debian's comparison can take. Raises ValueError for what is none, or has no end."""
    from debian.debian_support import Version

    if len(text) > VERSION_LIMIT:
        raise ValueError(f"a version of {len(text)} characters")
    return str(Version(text))


def _age(package: Package) -> Any:
    from debian.debian_support import Version

    return Version(package.version), package.file.sha256
