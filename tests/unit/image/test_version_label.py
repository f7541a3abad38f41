"""An image's version label, compared with the versions that a guest reports."""

import pytest

from b2d.image.version_label import loses_aufs_data, supports_aufs, version_mismatches

OURS = "26.1.5-6.12.57"


@pytest.mark.parametrize(
    ("version", "docker", "linux"),
    [
        (OURS, "26.1.5+dfsg1", "6.12.57+deb13-amd64"),
        (OURS, "26.1.5", "6.12.57"),
        ("19.03.12", "19.03.12", "4.19.130-boot2docker"),
        ("v19.03.12", "19.03.12", "4.19.130-boot2docker"),
        ("18.06.1-ce", "18.06.1-ce", "4.9.93-boot2docker"),
        ("19.03.0-rc3", "19.03.0-rc3", "4.19.130-boot2docker"),
        ("Boot2Docker", "18.09.0", "4.9.93-boot2docker"),  # the label of 18.09.0 names no version
        ("0123456789ab", "1.0.0", "5.0"),
        ("alpine-virt 3.20", "1.0.0", "5.0"),
    ],
)
def test_matching_or_unknown_versions_have_no_mismatch(version: str, docker: str, linux: str) -> None:
    assert version_mismatches(version, docker, linux) == ""


@pytest.mark.parametrize(
    ("version", "docker", "linux", "message"),
    [
        (OURS, "26.1.5+dfsg1", "6.12.48+deb13-amd64", "Linux 6.12.48"),
        (OURS, "26.1.4+dfsg1", "6.12.57+deb13-amd64", "Docker 26.1.4"),
        (OURS, "20.10.24+dfsg1", "6.1.119-amd64", "Docker 20.10.24 and Linux 6.1.119"),
        (OURS, "26.1.50", "6.12.57", "Docker 26.1.50"),
        (OURS, "26.1.5", "6.12.5", "Linux 6.12.5"),
        ("19.03.12", "18.06.1-ce", "4.9.93-boot2docker", "Docker 18.06.1-ce"),
        ("18.06.1-ce", "18.06.1", "4.9.93-boot2docker", "Docker 18.06.1"),
        (OURS, "", "", "Docker  and Linux "),
    ],
)
def test_a_mismatch_is_reported(version: str, docker: str, linux: str, message: str) -> None:
    assert version_mismatches(version, docker, linux) == message


@pytest.mark.parametrize("version", ["1.2.0", "1.13.1", "17.05.0-ce", "18.06.3-ce", "v18.06.1-ce"])
def test_boot2docker_supports_aufs_until_18_06(version: str) -> None:
    assert supports_aufs(version)
    for new in (OURS, "18.09.0", "19.03.12", "Boot2Docker", "something else"):
        assert loses_aufs_data(version, new)
        assert not loses_aufs_data(new, version)
    assert not loses_aufs_data(version, "17.05.0-ce")


@pytest.mark.parametrize("version", [OURS, "18.09.0", "18.09.1", "19.03.12", "Boot2Docker", "ubuntu 14.04.1", ""])
def test_other_versions_are_not_known_to_read_aufs(version: str) -> None:
    assert not supports_aufs(version)
