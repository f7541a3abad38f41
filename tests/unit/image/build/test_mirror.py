"""The choice of mirrors: the configured one, else those of apt on this host, else the recipe's."""

from pathlib import Path

import pytest

from b2d.errors import ConfigError, DownloadError
from b2d.image.build.builder import BuildRequest, build_image
from b2d.image.build.mirror import choose, from_apt
from tests.support.debian_mirror import LocalDebian, served
from tests.support.fakes import FakeReporter
from tests.support.small_image import RECIPE, a_recipe, publish

LISTED = ("http://one.example/debian", "http://two.example/debian")
DEB822 = """
# comment
Types: deb deb-src
URIs: http://near.example/debian/
Suites: bookworm bookworm-updates
Components: main contrib

Types: deb
URIs: http://near.example/debian-security
Suites: bookworm-security
Components: main
"""
ONE_LINE = """
# deb http://old.example/debian bookworm main
deb-src http://source.example/debian bookworm main
deb [arch=amd64 signed-by=/usr/share/keyrings/d.gpg] https://near.example/debian bookworm main # comment
deb https://near.example/debian bookworm-updates main
deb http://security.example/debian-security bookworm-security main
"""
OTHERS = """
deb [arch=amd64] https://download.docker.example/linux/debian bookworm stable
deb https://pkgs.vpn.example/stable/debian bookworm main
"""


def apt(folder: Path, **files: str) -> Path:
    (folder / "sources.list.d").mkdir()
    for name, text in files.items():
        place = (
            folder / "sources.list" if name == "sources_list" else folder / "sources.list.d" / name.replace("_", ".")
        )
        place.write_text(text)
    return folder


def bases(folder: Path) -> list[tuple[str, ...]]:
    return [tuple(mirror.bases.values()) for mirror in from_apt(folder)]


def test_a_configured_mirror_is_the_only_one(tmp_path: Path) -> None:
    (mirror,) = choose("https://my.example/mirrors/debian/", LISTED, apt(tmp_path, debian_sources=DEB822))
    assert mirror.url("debian", "dists") == "https://my.example/mirrors/debian/dists"
    assert mirror.url("debian-security", "dists") == "https://my.example/mirrors/debian-security/dists"


@pytest.mark.parametrize(
    "setting", ["ftp.de.debian.org/debian", "ftp://host/debian", "http://", "http://[::1/debian", "/"]
)
def test_an_invalid_mirror_is_refused_before_any_request(setting: str) -> None:
    with pytest.raises(ConfigError) as failure:
        choose(setting, LISTED)
    assert failure.value.exit_code == 2 and failure.value.hint


def test_sources_of_apt_are_read_in_deb822_format(tmp_path: Path) -> None:
    folder = apt(tmp_path, debian_sources=DEB822)
    assert bases(folder) == [("http://near.example/debian", "http://near.example/debian-security")]
    assert choose("", LISTED, folder) == from_apt(folder)


def test_sources_of_apt_are_read_in_one_line_format(tmp_path: Path) -> None:
    folder = apt(tmp_path, sources_list=ONE_LINE)
    assert bases(folder) == [("https://near.example/debian", "http://security.example/debian-security")]


def test_without_a_security_source_it_is_expected_beside_the_main_one(tmp_path: Path) -> None:
    folder = apt(tmp_path, some_list="deb http://near.example/debian trixie main\n")
    assert bases(folder) == [("http://near.example/debian", "http://near.example/debian-security")]


@pytest.mark.parametrize("debian", [{"debian_sources": DEB822}, {"sources_list": ONE_LINE}])
def test_third_party_archives_come_after_those_of_debian(tmp_path: Path, debian: dict[str, str]) -> None:
    mains = [main for main, _ in bases(apt(tmp_path, docker_list=OTHERS, **debian))]
    assert "near.example" in mains[0]
    assert mains[1:] == ["https://pkgs.vpn.example/stable/debian"]


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"sources_list": "deb http://archive.ubuntu.example/ubuntu noble main\n"},
        {"off_sources": DEB822.replace("Types: deb", "Enabled: no\nTypes: deb")},
        {"cd_list": "deb cdrom:[Debian 12]/ bookworm main\ndeb mirror+file:/etc/apt/mirrors/debian bookworm main\n"},
        {"broken_list": "deb\ndeb [\ndeb http://x.example/debian\n", "broken_sources": "\0\n:\nURIs: x\n"},
    ],
    ids=["nothing", "ubuntu", "off", "cd", "broken"],
)
def test_without_debian_sources_the_list_of_the_recipe_is_used(tmp_path: Path, files: dict[str, str]) -> None:
    assert [mirror.name for mirror in choose("", LISTED, apt(tmp_path, **files))] == list(LISTED)


def test_a_host_without_apt_uses_the_list_of_the_recipe(tmp_path: Path) -> None:
    assert [mirror.name for mirror in choose("", LISTED, tmp_path / "none")] == list(LISTED)


def test_mirrors_are_tried_in_order_until_one_is_signed_by_debian(
    debian: LocalDebian, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(debian)
    with served(LocalDebian()) as evil, served(LocalDebian()) as empty:
        publish(evil)
        urls = [empty.url, evil.url, debian.url]
        folder = a_recipe(tmp_path / "iso", debian, RECIPE.replace("mirrors = []", f"mirrors = {urls}"))
        monkeypatch.setattr("b2d.image.build.mirror.from_apt", lambda _apt: [])
        reporter = FakeReporter()
        request = BuildRequest("amd64", "", tmp_path / "cache", tmp_path / "b2d.iso", folder)
        build_image(request, reporter)
        first, second = reporter.texts("warn")
        assert empty.url in first and "has no such file" in first and "next mirror" in first
        assert evil.url in second and "not signed by Debian" in second
        debian.files.clear()
        with pytest.raises(DownloadError, match="has no such file"):
            build_image(request, FakeReporter())
