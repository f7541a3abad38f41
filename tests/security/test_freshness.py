"""An attacker on plain http cannot hold back security updates: data that may be stale is refused (case H3, L9)."""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import repeat
from pathlib import Path

import pytest
from pysequoia import SignatureMode, Tsk, sign

from b2d.cli import main
from b2d.errors import B2dError, DownloadError
from b2d.host.polling import wait_until
from b2d.image.acquire import ImageAcquirer
from b2d.image.build.builder import BuildRequest
from b2d.image.build.freshness import StaleIndexError
from b2d.image.build.signature import BadSignatureError, NotAnIndexError, verify
from b2d.models import SuiteState
from b2d.paths import Home
from tests.support.deb_builder import Deb
from tests.support.debian_mirror import SUITES, LocalDebian, replace_content, respond_with, served
from tests.support.fakes import FakeReporter
from tests.support.small_image import RECIPE, a_recipe, packages, publish

NOW = datetime.now(UTC)
DAY = timedelta(days=1)


class Person:
    """A user whose image is built from a trusted archive."""

    def __init__(self, debian: LocalDebian, folder: Path) -> None:
        self.debian = debian
        self.home = Home(folder / "home")
        self.reporter = FakeReporter()

    def supply(self, *, allow_expired: bool = False) -> ImageAcquirer:
        return ImageAcquirer(self.home, self.debian.url, self.reporter, allow_expired)

    def assert_refused(self, *words: str) -> DownloadError:
        """Assert that obtain and update fail with a hint and exit code 7 and change no image; return the last error."""
        names = {path.name for path in self.home.images.glob("*")}
        for ask in (self.supply().obtain, self.supply().update):
            with pytest.raises(DownloadError) as failure:
                ask("debian")
            assert failure.value.exit_code == 7 and failure.value.hint
            assert [word for word in words if word not in failure.value.message] == []
        assert {path.name for path in self.home.images.glob("*")} == names
        return failure.value

    def build_allowing_expired(self) -> dict[str, SuiteState]:
        """Build with --allow-expired and return the recorded state of each suite."""
        image = self.supply(allow_expired=True).obtain("debian")
        (stored,) = [stored_image for stored_image in self.supply().images.all() if stored_image.sha256 == image.sha256]
        assert stored.suites == image.suites
        return {suite.name: suite.state for suite in image.suites}


@pytest.fixture
def person(debian: LocalDebian, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Person:
    publish(debian)
    request = partial(BuildRequest, recipe=a_recipe(tmp_path / "iso", debian))
    monkeypatch.setattr("b2d.image.build.builder.BuildRequest", request)
    return Person(debian, tmp_path)


def of(suite: str) -> tuple[Deb, ...]:
    """Return the packages of that suite."""
    return tuple(packages()) if suite == "trixie" else ()


@pytest.mark.parametrize("suite", SUITES)
def test_an_expired_index_is_refused_and_accepted_only_with_the_option(person: Person, suite: str) -> None:
    image = person.supply().obtain("debian")
    person.debian.publish(suite, *of(suite), valid_until=NOW - DAY)
    error = person.assert_refused(f"the index of {suite} expired on {NOW - DAY:%Y-%m-%d}")
    assert "b2d download --allow-expired" in error.hint
    assert person.supply().ensure("debian") == image  # called by `up` and `init`
    assert person.build_allowing_expired() == {name: "expired" if name == suite else "current" for name in SUITES}
    assert any("--allow-expired" in text for text in person.reporter.texts("warn"))
    person.assert_refused("expired")


def test_the_first_image_is_not_built_from_an_expired_index(person: Person) -> None:
    person.debian.publish("trixie-security", valid_until=NOW - DAY)
    with pytest.raises(StaleIndexError, match="trixie-security expired"):
        person.supply().ensure("debian")
    assert person.supply().images.all() == []


@pytest.mark.parametrize("suite", SUITES)
def test_an_older_index_is_refused_even_without_expiry_and_without_the_cache(person: Person, suite: str) -> None:
    person.supply().obtain("debian")
    shutil.rmtree(person.home.cache)
    before = person.debian.created - 2 * DAY
    person.debian.publish(suite, *of(suite), date=before)
    person.assert_refused(suite, f"{before:%Y-%m-%d %H:%M}", f"{person.debian.created:%Y-%m-%d %H:%M}")
    assert person.build_allowing_expired()[suite] == "older"
    person.assert_refused(suite)  # the newer date is stored
    person.debian.publish(suite, *of(suite), date=NOW + DAY / 24)
    person.supply().obtain("debian")


def test_an_index_from_the_future_is_always_refused_and_its_date_not_stored(person: Person) -> None:
    person.debian.publish("trixie-updates", date=NOW + 3 * DAY)
    person.assert_refused("trixie-updates", f"{NOW + 3 * DAY:%Y-%m-%d}", "clock")
    with pytest.raises(StaleIndexError, match="clock"):
        person.supply(allow_expired=True).obtain("debian")
    assert not person.home.suite_dates.exists()
    person.debian.publish("trixie-updates", date=NOW + DAY / 2)  # a clock may be some hours behind
    person.supply().obtain("debian")


@pytest.mark.parametrize("suite", SUITES)
def test_a_missing_suite_is_refused_and_only_the_option_allows_it(person: Person, suite: str) -> None:
    person.debian.wrong[f"/{suite}/InRelease"] = repeat(respond_with(404))
    person.assert_refused("has no such file", suite)
    if suite == "trixie":
        with pytest.raises(DownloadError, match="has no such file"):
            person.build_allowing_expired()
    else:
        assert person.build_allowing_expired()[suite] == "missing"


def test_a_suite_with_a_wrong_signature_is_never_skipped(person: Person) -> None:
    person.debian.publish("trixie-security", key=Tsk.generate("Mallory <m@example.org>"))
    with pytest.raises(BadSignatureError):
        person.supply(allow_expired=True).obtain("debian")


def test_a_package_older_than_in_the_stored_image_is_refused(person: Person) -> None:
    person.supply().obtain("debian")
    person.debian.publish("trixie", *packages("26.1.4+dfsg1-1"), date=NOW + DAY / 24)
    person.assert_refused("docker.io 26.1.4+dfsg1-1", "26.1.5+dfsg1-9+b1")
    assert person.build_allowing_expired()["trixie"] == "current"


def test_a_stale_index_is_used_only_when_no_mirror_has_a_current_one(person: Person, tmp_path: Path) -> None:
    person.debian.publish("trixie-security", valid_until=NOW - DAY)
    with served(LocalDebian()) as other:
        other.key, other.created = person.debian.key, person.debian.created
        publish(other)
        mirrors = RECIPE.replace("mirrors = []", f"mirrors = {[person.debian.url, other.url]}")
        (tmp_path / "iso" / "image.toml").write_text(mirrors)
        with pytest.MonkeyPatch.context() as patches:
            patches.setattr("b2d.image.build.mirror.from_apt", lambda _apt: [])
            supply = ImageAcquirer(person.home, "", person.reporter, allow_expired=True)
            assert supply.obtain("debian").lacks == ()
            other.files.clear()
            with pytest.raises(StaleIndexError, match="trixie-security expired"):
                ImageAcquirer(person.home, "", person.reporter).obtain("debian")


def test_an_image_contains_the_state_of_its_suites(person: Person) -> None:
    from b2d.formats.iso_files import read_file

    person.debian.publish("trixie-security", valid_until=NOW - DAY)
    image = person.supply(allow_expired=True).obtain("debian")
    assert image.date == f"{person.debian.created:%Y-%m-%d}" and image.lacks == ("trixie-security expired",)
    for path in ("/b2d/image.json", "/b2d/manifest.json"):
        rows = json.loads(read_file(image.iso, path) or b"")["suites"]
        assert [(row["name"], row["state"]) for row in rows] == [
            ("trixie", "current"),
            ("trixie-updates", "current"),
            ("trixie-security", "expired"),
        ]
        assert {row["date"] for row in rows} == {f"{person.debian.created:%Y-%m-%dT%H:%M:%SZ}"}


def test_verbs_report_a_stale_image(
    person: Person, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("B2D_HOME", str(person.home.root))
    monkeypatch.setenv("B2D_MIRROR", person.debian.url)
    monkeypatch.setenv("B2D_DRIVER", "qemu")
    monkeypatch.chdir(tmp_path)

    def typed(*words: str) -> tuple[int, str, str]:
        return main._run(list(words)), *capsys.readouterr()

    person.debian.publish("trixie-security", valid_until=NOW - DAY)
    for verb in ("download", "iso build"):
        code, out, err = typed(*verb.split())
        assert (code, out) == (7, "")
        assert f"b2d {verb} --allow-expired" in err
        code, out, err = typed(*verb.split(), "--allow-expired")
        assert code == 0, err
    day = f"{person.debian.created:%Y-%m-%d}"
    assert f"{day}  trixie-security expired" in typed("iso", "list")[1].splitlines()[1]
    rows = json.loads(typed("iso", "list", "--json")[1])[0]["suites"]
    assert {
        "name": "trixie-security",
        "date": f"{person.debian.created:%Y-%m-%dT%H:%M:%SZ}",
        "state": "expired",
    } in rows
    code, out, _ = typed("doctor")
    assert f"of {day}, may lack security updates: trixie-security expired" in out
    person.debian.publish("trixie-security", date=NOW + DAY / 24)
    assert typed("download")[0] == 0
    assert typed("iso", "list")[1].splitlines()[1].endswith("  all")
    assert "from all suites as of" in typed("doctor")[1]
    findings = {finding["name"]: finding for finding in json.loads(typed("doctor", "--json")[1])}
    assert findings["debian image"]["verdict"] == "good"
    code, _, err = typed("download", "boot2docker", "--allow-expired")
    assert code == 2 and "--allow-expired" in err


def test_an_image_without_a_suite_is_rebuilt_when_the_suite_is_available(person: Person) -> None:
    person.debian.publish("trixie-security", valid_until=NOW - DAY)
    lacking = person.supply(allow_expired=True).obtain("debian")
    person.debian.publish("trixie-security", date=NOW + DAY / 24)
    image = person.supply().obtain("debian")
    assert image.sha256 != lacking.sha256 and image.lacks == ()
    person.debian.publish("trixie-security", date=NOW + DAY / 12)
    assert person.supply().obtain("debian").sha256 == image.sha256  # a newer index of the same packages


def test_the_option_is_refused_for_other_sources(person: Person) -> None:
    with pytest.raises(B2dError, match="--allow-expired") as failure:
        person.supply(allow_expired=True).obtain("boot2docker")
    assert failure.value.exit_code == 2


@pytest.mark.parametrize("content", [b"", b"[", b"{}", b'{"suites": {"trixie": 1}}', b"[" * 100_000])
def test_unreadable_stored_dates_are_an_error(person: Person, content: bytes) -> None:
    person.supply().obtain("debian")
    person.home.suite_dates.write_bytes(content)
    error = person.assert_refused(str(person.home.suite_dates))
    assert error.hint == f"rm {person.home.suite_dates}"


@pytest.mark.parametrize("change", [lambda text: text.replace(b"Date: ", b"Data: ", 1), lambda text: text[:40]])
def test_an_index_without_a_date_is_refused(
    person: Person, change: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "tests.support.debian_mirror.sign", lambda signer, text, mode: sign(signer, change(text), mode=mode)
    )
    person.debian.publish("trixie", *packages())
    with pytest.raises(NotAnIndexError):
        person.supply(allow_expired=True).obtain("debian")


def message_of(key: Tsk) -> bytes:
    return sign(key.signer(), b"Codename: some\n", mode=SignatureMode.CLEAR)


def test_a_signature_of_an_expired_key_is_refused(tmp_path: Path) -> None:
    key, path = Tsk.generate("Archive <a@example.org>", validity_seconds=86400), tmp_path / "key"
    path.write_bytes(bytes(key.extract_certificate()))
    signed = message_of(key)
    assert verify(signed, [path], "url") == b"Codename: some\n"
    with pytest.raises(BadSignatureError, match="signed by a key that expired on") as failure:
        verify(signed, [path], "url", datetime.now(UTC) + 2 * DAY)
    assert "upgrade b2d" in failure.value.hint


def test_an_expired_subkey_is_refused(tmp_path: Path) -> None:
    key, path = Tsk.generate("Archive <a@example.org>", validity_seconds=86400), tmp_path / "key"
    longer = key.extract_certificate().set_expiration(datetime.now(UTC) + 100 * DAY, key.certifier())
    path.write_bytes(bytes(longer))
    signed = message_of(key)
    assert verify(signed, [path], "url") == b"Codename: some\n"
    with pytest.raises(BadSignatureError, match="expired"):
        verify(signed, [path], "url", datetime.now(UTC) + 2 * DAY)


def test_a_signature_made_after_the_expiry_of_its_key_is_refused(tmp_path: Path) -> None:
    key, path = Tsk.generate("Archive <a@example.org>"), tmp_path / "key"
    end = datetime.now(UTC) + timedelta(seconds=2)
    path.write_bytes(bytes(key.extract_certificate().set_expiration(end, key.certifier())))
    wait_until(lambda: datetime.now(UTC) > end, condition="the key to expire", timeout_s=10)
    with pytest.raises(BadSignatureError):
        verify(message_of(key), [path], "url")


def test_each_key_has_its_own_expiry(tmp_path: Path) -> None:
    old, new = Tsk.generate("Old <o@example.org>", validity_seconds=86400), Tsk.generate("New <n@example.org>")
    path = tmp_path / "keys"
    path.write_bytes(bytes(old.extract_certificate()) + bytes(new.extract_certificate()))
    for key, counts in ((old, False), (new, True)):
        if counts:
            assert verify(message_of(key), [path], "url", datetime.now(UTC) + 2 * DAY) == b"Codename: some\n"
        else:
            with pytest.raises(BadSignatureError):
                verify(message_of(key), [path], "url", datetime.now(UTC) + 2 * DAY)


def test_a_modified_index_is_refused_despite_the_option(person: Person) -> None:
    person.debian.wrong["trixie/InRelease"] = repeat(
        replace_content(lambda text: text.replace(b"Date: ", b"Date:  ", 1))
    )
    with pytest.raises(BadSignatureError):
        person.supply(allow_expired=True).obtain("debian")
