"""Data from a Debian archive is what Debian signed, or is refused with one message."""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import repeat
from pathlib import Path

import pytest
from filelock import FileLock
from pysequoia import SignatureMode, Tsk, sign

from b2d.errors import DownloadError, MachineLockedError
from b2d.image.build import apt_repository, package_cache, recipe
from b2d.image.build.apt_repository import Package
from b2d.image.build.freshness import Freshness, StaleIndexError
from b2d.image.build.mirror import Mirror, choose
from b2d.image.build.package_cache import Cache, fetch_all
from b2d.image.build.signature import BadSignatureError, NotAnIndexError, verify
from b2d.network.partial_file import CacheValidators
from tests.support.deb_builder import Deb
from tests.support.debian_mirror import (
    PORTAL,
    SUITES,
    Answer,
    LocalDebian,
    break_off_after,
    flip_bit,
    replace_content,
    respond_slowly,
    respond_with,
)
from tests.support.fakes import FakeReporter
from tests.support.timing import not_waiting_for

BUSYBOX = Deb("busybox-static", "1.37-6", b"!<arch>\n" + bytes(range(256)) * 1000)
TINI = Deb("tini", "0.19-3", b"!<arch>\n" + b"tini" * 50_000)
PAST, FUTURE = (datetime.now(UTC) + timedelta(days=days) for days in (-1, 30))
INDEX, PACKAGE = "dists/trixie/main/binary-amd64/by-hash/", "pool/main/busybox"


class Host:
    """A host with a recipe and a package cache."""

    def __init__(self, debian: LocalDebian, folder: Path) -> None:
        self.cache = Cache(folder / "cache")
        self.reporter = FakeReporter()
        self.mirrors = choose(debian.url, ())
        self.recipe = replace(
            recipe.read(recipe.find()),
            keys=(debian.trusted(folder),),
            root_packages=("busybox-static", "tini"),
            medium_packages=(),
        )

    @property
    def mirror(self) -> Mirror:
        return self.mirrors[0]

    def read_packages(self) -> dict[str, list[Package]]:
        arguments = (self.recipe, self.mirror, "amd64", self.cache, self.reporter, Freshness())
        return apt_repository.read_packages(*arguments).packages

    def fetch_packages(self) -> list[Package]:
        """Download the newest versions of all packages of the recipe."""
        chosen = apt_repository.choose(self.recipe.root_packages, self.read_packages())
        fetch_all([package.file for package in chosen], self.cache, self.reporter, "packages")
        return chosen

    def stored_hashes(self) -> list[str]:
        """Return the hashes in the cache, and assert that each file matches its name."""
        names = [path.name for path in self.cache.folder.glob("*") if re.fullmatch(r"[0-9a-f]{64}", path.name)]
        assert names == [hashlib.sha256(self.cache.path(name).read_bytes()).hexdigest() for name in names]
        return names

    def has_stored(self, deb: Deb) -> bool:
        return hashlib.sha256(deb.content).hexdigest() in self.stored_hashes()


@pytest.fixture
def host(debian: LocalDebian, tmp_path: Path) -> Host:
    debian.publish("trixie", BUSYBOX, TINI)
    debian.publish("trixie-updates")
    debian.publish("trixie-security")
    return Host(debian, tmp_path)


def refused(act: Callable[[], object], kind: type[DownloadError] = DownloadError) -> DownloadError:
    """Return the error of `act`: exit code 7, one line, and a hint."""
    with pytest.raises(kind) as failure:
        act()
    assert failure.value.exit_code == 7
    assert "\n" not in failure.value.message and failure.value.hint
    assert not re.search(r"HTTPConnection|Errno|object at|Error\(", failure.value.message)
    return failure.value


def ranges(debian: LocalDebian) -> Sequence[str]:
    return [requested for path, requested in debian.requests if PACKAGE in path]


def test_a_valid_archive_is_read_and_its_packages_are_stored_by_hash(host: Host) -> None:
    chosen = host.fetch_packages()
    assert [(package.name, package.version) for package in chosen] == [("busybox-static", "1.37-6"), ("tini", "0.19-3")]
    assert host.cache.path(chosen[0].file.sha256).read_bytes() == BUSYBOX.content
    assert host.has_stored(BUSYBOX) and host.has_stored(TINI)
    assert not list(host.cache.folder.glob("*.part"))
    assert [(bar.done, bar.total) for bar in host.reporter.bars][-1] == (len(BUSYBOX.content) + len(TINI.content),) * 2


def test_an_index_that_another_key_signed_is_refused(host: Host, debian: LocalDebian) -> None:
    debian.publish("trixie", BUSYBOX, TINI, key=Tsk.generate("Mallory <m@example.org>"))
    assert "not signed by Debian" in refused(host.read_packages, BadSignatureError).message


@pytest.mark.parametrize("old", [b"Codename: trixie", b"SHA256:\n ", b"Origin"])
def test_an_index_that_was_changed_after_it_was_signed_is_refused(host: Host, debian: LocalDebian, old: bytes) -> None:
    debian.wrong["trixie/InRelease"] = repeat(replace_content(lambda content: content.replace(old, old + b"0", 1)))
    refused(host.read_packages, BadSignatureError)


def test_only_signed_text_is_read(host: Host, debian: LocalDebian) -> None:
    stranger = Tsk.generate("Mallory <m@example.org>")
    good, evil = (
        sign(key.signer(), b"Codename: %s\n" % name, mode=SignatureMode.CLEAR)
        for key, name in ((debian.key, b"good"), (stranger, b"evil"))
    )
    header = good.replace(b"Hash: SHA512\n", b"Hash: SHA512\nCodename: evil\n")
    for content in (good, good + b"\nCodename: evil\n", header):
        assert verify(content, host.recipe.keys, "url") == b"Codename: good\n"
    for content in (evil, evil + good, good + evil):
        refused(lambda text=content: verify(text, host.recipe.keys, "url"), BadSignatureError)  # type: ignore[misc]
    refused(lambda: verify(b"Codename: evil\n\n" + good, host.recipe.keys, "url"), NotAnIndexError)


@pytest.mark.parametrize("content", [b"Origin: Debian\nCodename: trixie\n", b"", b"\0" * 500])
def test_an_index_without_a_signature_is_refused(host: Host, debian: LocalDebian, content: bytes) -> None:
    debian.wrong["trixie/InRelease"] = repeat(respond_with(200, content))
    assert "not an index" in refused(host.read_packages, NotAnIndexError).message
    assert host.stored_hashes() == []


def test_a_signed_index_without_content_is_refused(host: Host, debian: LocalDebian) -> None:
    signed = sign(debian.key.signer(), b"Codename: trixie\n", mode=SignatureMode.CLEAR)
    debian.wrong["trixie/InRelease"] = repeat(respond_with(200, signed))
    refused(host.read_packages, NotAnIndexError)


@pytest.mark.parametrize("suite", SUITES)
def test_a_signed_index_of_another_suite_is_refused(host: Host, debian: LocalDebian, suite: str) -> None:
    for name in ("bookworm", "trixie-backports", "trixie-updates-proposed"):
        debian.publish(suite, BUSYBOX, TINI, codename=name)
        assert name in refused(host.read_packages).message


@pytest.mark.parametrize("suite", SUITES)
def test_an_expired_index_of_any_suite_is_refused(host: Host, debian: LocalDebian, suite: str) -> None:
    newer = replace(TINI, version="0.20-1")
    debian.publish(suite, BUSYBOX, newer, valid_until=PAST)
    error = refused(host.read_packages, StaleIndexError)
    assert f"the index of {suite} expired on {PAST:%Y-%m-%d}" in error.message and "--allow-expired" in error.hint
    debian.publish(suite, BUSYBOX, newer, valid_until=FUTURE)
    assert host.read_packages()["tini"][0].version == "0.20-1"


def test_the_newest_version_wins_in_any_suite(host: Host, debian: LocalDebian) -> None:
    debian.publish("trixie", BUSYBOX, replace(TINI, version="0.9-1"))
    debian.publish("trixie-security", replace(TINI, version="0.19-3+deb13u1", content=b"!<arch>\nmended"))
    debian.publish("trixie-updates", replace(TINI, version="0.19-3~bpo1"))
    tini = host.fetch_packages()[1]
    assert tini.version == "0.19-3+deb13u1"
    assert "/debian-security/" in tini.file.url
    assert host.cache.path(tini.file.sha256).read_bytes() == b"!<arch>\nmended"


def test_a_package_that_the_archive_lacks_is_named(host: Host, debian: LocalDebian) -> None:
    debian.publish("trixie", BUSYBOX)
    assert "no package tini" in refused(host.fetch_packages).message


@pytest.mark.parametrize("path", ["trixie/InRelease", "trixie-security/InRelease", INDEX, PACKAGE])
@pytest.mark.parametrize(
    ("answer", "named"),
    [
        (respond_with(200, PORTAL), "is a web page"),
        (respond_with(404), "has no such file"),
        (respond_with(403), "refuses"),
        (respond_with(500), "has an internal error"),
        (break_off_after(0), "closed the connection|ended after|is incomplete"),
        (break_off_after(100), "closed the connection|ended after|is incomplete"),
    ],
    ids=["portal", "404", "403", "500", "nothing", "cut"],
)
def test_a_misbehaving_mirror_is_reported_with_the_reason(
    host: Host, debian: LocalDebian, path: str, answer: Answer, named: str
) -> None:
    debian.wrong[path] = repeat(answer)
    failure = refused(host.fetch_packages)
    assert re.search(named, failure.message)
    assert not host.has_stored(BUSYBOX)
    del debian.wrong[path]
    host.fetch_packages()  # the mirror works again, and no earlier data interferes
    assert host.has_stored(BUSYBOX)


@pytest.mark.parametrize("path", [INDEX, PACKAGE])
@pytest.mark.parametrize(
    "change",
    [flip_bit, lambda content: content[:-1], lambda content: content + b"\0", lambda content: b""],
    ids=["bit", "shorter", "longer", "empty"],
)
def test_a_file_with_another_hash_is_refused_and_not_stored(
    host: Host, debian: LocalDebian, path: str, change: Callable[[bytes], bytes]
) -> None:
    debian.wrong[path] = repeat(replace_content(change))
    assert "busybox-static" in refused(host.fetch_packages).message or path == INDEX
    assert not host.has_stored(BUSYBOX)
    del debian.wrong[path]
    host.fetch_packages()
    assert host.has_stored(BUSYBOX)


def test_an_interrupted_download_is_resumed(host: Host, debian: LocalDebian) -> None:
    debian.wrong[PACKAGE] = iter([break_off_after(1000)])
    host.fetch_packages()
    assert ranges(debian) == ["", "bytes=1000-"]
    bar = host.reporter.bars[-1]
    assert bar.done == bar.total


def test_the_next_command_resumes_a_download(host: Host, debian: LocalDebian) -> None:
    debian.wrong[PACKAGE] = iter([break_off_after(1000), respond_with(500), respond_with(500), respond_with(500)])
    refused(host.fetch_packages)
    host.fetch_packages()
    assert ranges(debian)[-1] == "bytes=1000-"
    assert host.has_stored(BUSYBOX)


def test_a_server_without_ranges_is_asked_for_the_whole_file(host: Host, debian: LocalDebian) -> None:
    debian.wrong[PACKAGE] = iter([break_off_after(1000), respond_with(200, BUSYBOX.content)])
    host.fetch_packages()
    assert ranges(debian) == ["", "bytes=1000-"]
    assert host.has_stored(BUSYBOX)


@pytest.mark.parametrize("part", [b"<html>" * 10, bytes(len(BUSYBOX.content)), bytes(10**6)])
def test_a_leftover_part_of_another_file_does_no_harm(host: Host, debian: LocalDebian, part: bytes) -> None:
    sha256 = hashlib.sha256(BUSYBOX.content).hexdigest()
    partial = host.cache.partial(sha256)
    host.cache.folder.mkdir()
    for etag in ("", '"another"', f'"{sha256}"'):  # the last claims to be of the same file
        partial.begin(CacheValidators(etag))
        partial.path.write_bytes(part)
        host.fetch_packages()
        assert host.has_stored(BUSYBOX)
        assert [path.suffix for path in host.cache.folder.glob(f"{sha256}*")] == [""]
        host.cache.path(sha256).unlink()


def test_a_stored_package_is_not_transferred_again(host: Host, debian: LocalDebian) -> None:
    host.fetch_packages()
    debian.requests.clear()
    host.fetch_packages()
    assert {path.rpartition("/")[2] for path in debian.paths()} == {"InRelease"}


def test_a_damaged_stored_file_is_downloaded_again(host: Host, debian: LocalDebian) -> None:
    host.fetch_packages()
    path = host.cache.path(hashlib.sha256(BUSYBOX.content).hexdigest())
    path.write_bytes(flip_bit(BUSYBOX.content))
    host.fetch_packages()
    assert host.has_stored(BUSYBOX)
    assert len(ranges(debian)) == 2


def test_the_first_failure_ends_the_others(host: Host, debian: LocalDebian) -> None:
    """They stop at their current piece: a kernel takes minutes on a slow network."""
    debian.wrong["pool/main/tini"] = repeat(respond_slowly)
    debian.wrong[PACKAGE] = repeat(respond_with(404))
    with not_waiting_for(10):
        assert "busybox" in refused(host.fetch_packages).message


def test_concurrent_downloads_of_packages_wait_for_each_other(
    host: Host, debian: LocalDebian, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(package_cache, "LOCK_WAIT_S", 0.1)
    host.cache.folder.mkdir()
    with (
        FileLock(host.cache.folder / "lock"),
        pytest.raises(MachineLockedError, match="another b2d is downloading packages"),
    ):
        host.fetch_packages()
    assert host.reporter.texts("step") == ["waiting for another b2d to download packages"]
    host.fetch_packages()
