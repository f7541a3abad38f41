"""Debian's archive: a signed index, verified against the pinned keys, and the packages that it names."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path, PurePosixPath
from typing import Any

from b2d.errors import DownloadFailed
from b2d.files import read_bounded
from b2d.formats import compression, numbers
from b2d.image.fetch import HINT_MIRROR, Cache, Wanted, get_all, get_small
from b2d.image.mirror import Mirror
from b2d.image.recipe import Archive, Recipe
from b2d.ports import Reporter

PACKED_LIMIT, INDEX_LIMIT = 128 << 20, 1 << 30  # bytes of an index; the largest, main's, has 9 MB, unpacked 55
SIZE_LIMIT = 4 << 30  # bytes of a file of an archive


@dataclass(frozen=True, slots=True)
class Package:
    """One .deb as the archive describes it."""

    name: str
    version: str
    depends: str
    file: Wanted


@dataclass(frozen=True, slots=True)
class Release:
    """What an InRelease says, once its signature was verified."""

    sha256: dict[str, tuple[str, int]]  # path: hash, size in bytes
    valid_until: datetime | None
    suite: str


class BadSignature(DownloadFailed):
    """An index that none of the pinned keys signed."""


class NotAnIndex(DownloadFailed):
    """What came from the mirror is something else altogether."""


def packages(
    recipe: Recipe, mirror: Mirror, architecture: str, cache: Cache, reporter: Reporter
) -> dict[str, list[Package]]:
    """Every version of each package that the recipe could want, newest first. Raises DownloadFailed.

    An archive that is not required and has expired is left out with a warning.
    """
    found: dict[str, list[Package]] = {}
    for archive in recipe.archives:
        release = _release(recipe, mirror, archive, cache, reporter)
        if release is None:
            continue
        index = _index(release, recipe.component, architecture, mirror, archive)
        get_all([index], cache, reporter, f"index {archive.name}")
        text = _unpacked(cache.path(index.sha256), index)
        for package in _parse(text, mirror, archive, _names(recipe)):
            found.setdefault(package.name, []).append(package)
    for versions in found.values():
        versions.sort(key=_age, reverse=True)
    return found


def choose(names: Sequence[str], available: dict[str, list[Package]]) -> list[Package]:
    """The newest of each name. Raises DownloadFailed naming one that the archive does not have."""
    chosen = []
    for name in names:
        if not available.get(name):
            raise DownloadFailed(f"the archive has no package {name}", hint="try another mirror, or upgrade b2d")
        chosen.append(available[name][0])
    return chosen


def kernel_of(meta: Package) -> str:
    """The package that a kernel's meta package stands for."""
    for dependency in meta.depends.split(","):
        name = dependency.split()[0] if dependency.split() else ""
        if name.startswith("linux-image-"):
            return name
    raise DownloadFailed(f"{meta.name} {meta.version} depends on no kernel")


def verify(content: bytes, keys: Sequence[Path], url: str) -> bytes:
    """The signed text of a clear-signed message. Raises BadSignature unless one of `keys` signed it."""
    import pysequoia

    if b"-----BEGIN PGP SIGNED MESSAGE-----" not in content[:200]:
        raise NotAnIndex(
            f"{url} is not an index of Debian's archive",
            hint=HINT_MIRROR,
            details=repr(content[:200]),
        )
    certificates = [certificate for key in keys for certificate in pysequoia.Cert.split_bytes(key.read_bytes())]
    try:
        result = pysequoia.verify(content, lambda _identifiers: certificates)
    except Exception as error:  # the library raises nothing more precise
        raise BadSignature(
            f"{url} is not signed by Debian: nothing was installed",
            hint=HINT_MIRROR,
            details=str(error),
        ) from error
    if not result.valid_sigs:
        raise BadSignature(f"{url} is not signed by Debian: nothing was installed", hint=HINT_MIRROR)
    return bytes(result.bytes or b"")


def _release(recipe: Recipe, mirror: Mirror, archive: Archive, cache: Cache, reporter: Reporter) -> Release | None:
    url = mirror.url(archive.base, f"{archive.path}/InRelease")
    release = _parse_release(verify(get_small(url, cache), recipe.keys, url), url)
    if release.suite != PurePosixPath(archive.path).name:
        raise DownloadFailed(f"{url} is signed, but it is of another suite: {release.suite}", hint=HINT_MIRROR)
    if release.valid_until is not None and release.valid_until < datetime.now(UTC):
        text = f"{url} expired on {release.valid_until:%Y-%m-%d %H:%M} UTC (or this host's clock is wrong)"
        if archive.required:
            raise DownloadFailed(text, hint=HINT_MIRROR)
        reporter.warn(f"{text}: {archive.name} is left out")
        return None
    return release


def _parse_release(text: bytes, url: str) -> Release:
    from debian.deb822 import Release as Stanza

    try:
        stanza: Any = Stanza(text)
        hashes = {
            entry["name"]: (entry["sha256"], numbers.parse(entry["size"], SIZE_LIMIT)) for entry in stanza["SHA256"]
        }
        until = stanza.get("Valid-Until")
        return Release(hashes, _moment(until) if until else None, stanza["Codename"])
    except (LookupError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise NotAnIndex(f"{url} lacks what an index has", hint=HINT_MIRROR, details=repr(error)) from error


def _moment(date: str) -> datetime:
    """Return the time of a header; one without a zone is of UTC. Raises ValueError."""
    moment = parsedate_to_datetime(date)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _index(release: Release, component: str, architecture: str, mirror: Mirror, archive: Archive) -> Wanted:
    path = f"{component}/binary-{architecture}/Packages.xz"
    if path not in release.sha256:
        raise DownloadFailed(f"{archive.path} has no {path}", hint=HINT_MIRROR)
    sha256, size = release.sha256[path]
    # by its hash: the file of that name may be replaced while it is fetched
    folder = f"{component}/binary-{architecture}/by-hash/SHA256/{sha256}"
    return Wanted(f"index {archive.name}", mirror.url(archive.base, f"{archive.path}/{folder}"), size, sha256)


def _unpacked(path: Path, index: Wanted) -> str:
    try:
        return compression.unxz(read_bounded(path, PACKED_LIMIT), INDEX_LIMIT).decode()
    except (compression.DecompressionError, UnicodeDecodeError, OSError) as error:
        raise DownloadFailed(f"{index.name} cannot be unpacked: {error}", hint=HINT_MIRROR) from error


def _names(recipe: Recipe) -> frozenset[str]:
    return frozenset((recipe.kernel_package, *recipe.root_packages, *recipe.medium_packages))


def _parse(text: str, mirror: Mirror, archive: Archive, names: frozenset[str]) -> Iterator[Package]:
    """Of 68 000 stanzas only those that could be wanted are read: all of them would take long."""
    from debian.deb822 import Deb822
    from debian.debian_support import Version

    for part in text.split("\n\n"):
        name = part.partition("\n")[0].removeprefix("Package: ")
        if name not in names and not name.startswith("linux-image-"):
            continue
        try:
            stanza = Deb822(part)
            version = str(Version(stanza["Version"]))
            wanted = Wanted(
                name=f"{name} {version}",
                url=mirror.url(archive.base, stanza["Filename"]),
                size=numbers.parse(stanza["Size"], SIZE_LIMIT),
                sha256=stanza["SHA256"],
            )
            depends = stanza.get("Depends", "")
        except (LookupError, ValueError, TypeError, AttributeError) as error:
            said = f"the index {archive.name} does not say what a package is: {name[:100]}"
            raise NotAnIndex(said, hint=HINT_MIRROR, details=repr(error)) from error
        yield Package(name, version, depends, wanted)


def _age(package: Package) -> Any:
    from debian.debian_support import Version

    return Version(package.version), package.file.sha256
