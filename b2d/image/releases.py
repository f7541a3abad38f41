"""Find the newest release by a releases API; boot2docker's last release is known."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from b2d.errors import DownloadError, ImageError
from b2d.formats import json_text
from b2d.formats.iso9660 import read_volume
from b2d.network import http_cache, http_client
from b2d.network.http_client import display_url
from b2d.reporting.base import Reporter

BOOT2DOCKER = "https://api.github.com/repos/boot2docker/boot2docker/releases"
ISO = "boot2docker.iso"
SHA256 = re.compile("[0-9a-f]{64}")
QUOTED_SHA256 = r"\b([0-9a-f]{64})\s+\*?%s\b"  # release notes quote the output of sha256sum


@dataclass(frozen=True, slots=True)
class Release:
    """The ISO of a release; an empty sha256 where none was published."""

    version: str
    url: str
    sha256: str = ""


# the last one: the project was archived after it (2020-06-29)
LAST_RELEASE = Release(
    "19.03.12", "https://github.com/boot2docker/boot2docker/releases/download/v19.03.12/boot2docker.iso"
)


def boot2docker_release(folder: Path, reporter: Reporter, api: str = BOOT2DOCKER) -> Release:
    """Return the newest release of boot2docker; LAST_RELEASE, with a warning, when it is unavailable."""
    try:
        return newest_release(folder, api)
    except DownloadError as error:
        reporter.warn(f"the releases could not be listed, using {LAST_RELEASE.version}: {error.message}")
        return LAST_RELEASE


def newest_release(folder: Path, api: str = BOOT2DOCKER) -> Release:
    """Return the first full release with an ISO that a releases API lists, or the one that it names.

    The response is cached in `folder`. Raises DownloadError.
    """
    content = http_cache.get_cached(api, folder, {"Accept": "application/vnd.github+json"})
    try:
        release = next((iso for data in _candidates(content) if (iso := _release(data))), None)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DownloadError(f"{api} did not answer as a releases API", details=repr(error)) from error
    if release is None:
        raise DownloadError(f"{api} lists no release with an ISO", hint=http_client.HINT_ADDRESS)
    http_client.redirect_target(api, release.url)
    return release


def check_label(release: Release, iso: Path, reporter: Reporter) -> None:
    """Raise ImageError for an ISO that is not boot2docker's; warn of one of another release.

    Both have been published.
    """
    volume = read_volume(iso)
    if not volume.is_boot2docker:
        message = f"{display_url(release.url)} is not boot2docker's ISO: its label is {volume.label!r}"
        raise ImageError(message, hint="b2d download ADDRESS, with the address of an ISO")
    if volume.version not in (release.version, volume.label):
        reporter.warn(f"the ISO of release {release.version} is labelled {volume.version}")


def _candidates(content: bytes) -> list[dict[str, Any]]:
    releases = json_text.parse(content)
    if isinstance(releases, dict):
        return [releases]
    return [release for release in releases if not release.get("prerelease") and not release.get("draft")]


def _release(data: dict[str, Any]) -> Release | None:
    """Return the release with its ISO, boot2docker.iso or the only one; None when it has none."""
    assets = {str(asset["name"]): asset for asset in data["assets"]}
    isos = [name for name in assets if name.lower().endswith(".iso")]
    name = ISO if ISO in isos else isos[0] if len(isos) == 1 else ""
    if not name:
        return None
    asset = assets[name]
    published = str(asset.get("digest") or "")  # GitHub's own hash, for uploads since 2025
    if published.startswith("sha256:"):
        sha256 = published.removeprefix("sha256:").lower()
        if SHA256.fullmatch(sha256) is None:
            raise ValueError(f"{published!r} is not a hash")
    else:
        quoted = re.search(QUOTED_SHA256 % re.escape(name), str(data.get("body") or ""))
        sha256 = quoted[1] if quoted else ""
    return Release(str(data["tag_name"]).removeprefix("v"), str(asset["browser_download_url"]), sha256)
