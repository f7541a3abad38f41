"""Which release is the newest, as a releases API tells it; boot2docker's last is known by heart."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from b2d.errors import DownloadError
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
    """A release's ISO; an empty sha256 is one that nobody published."""

    version: str
    url: str
    sha256: str = ""


# the last there will be: the project was archived after it (2020-06-29)
LAST_RELEASE = Release(
    "19.03.12", "https://github.com/boot2docker/boot2docker/releases/download/v19.03.12/boot2docker.iso"
)


def boot2docker_release(folder: Path, reporter: Reporter, api: str = BOOT2DOCKER) -> Release:
    """The newest release of boot2docker; LAST_KNOWN, with a warning, when it cannot be asked for."""
    try:
        return newest_release(folder, api)
    except DownloadError as error:
        reporter.warn(f"the releases could not be listed, so {LAST_RELEASE.version} it is: {error.message}")
        return LAST_RELEASE


def newest_release(folder: Path, api: str = BOOT2DOCKER) -> Release:
    """The first full release with an ISO that a releases API lists; where it names one release, that one.

    Its answer is kept in `folder`. Raises DownloadError.
    """
    content = http_cache.get_cached(api, folder, {"Accept": "application/vnd.github+json"})
    try:
        release = next((found for one in _candidates(content) if (found := _release(one))), None)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DownloadError(f"{api} does not answer as a releases API does", details=repr(error)) from error
    if release is None:
        raise DownloadError(f"{api} lists no release with an ISO", hint=http_client.HINT_ADDRESS)
    http_client.redirect_target(api, release.url)
    return release


def check_label(release: Release, iso: Path, reporter: Reporter) -> None:
    """Raise DownloadError for what is no ISO of boot2docker's; warn of one of another release. Both have been."""
    volume = read_volume(iso)
    if not volume.is_boot2docker:
        message = f"{display_url(release.url)} is another ISO than boot2docker's: its label is {volume.label!r}"
        raise DownloadError(message, hint="give the address of the one that you want")
    if volume.version not in (release.version, volume.label):
        reporter.warn(f"the ISO of release {release.version} says that it is {volume.version}")


def _candidates(content: bytes) -> list[dict[str, Any]]:
    told = json_text.parse(content)
    if isinstance(told, dict):
        return [told]
    return [one for one in told if not one.get("prerelease") and not one.get("draft")]


def _release(one: dict[str, Any]) -> Release | None:
    """None when it has no ISO: boot2docker.iso, or the only one."""
    assets = {str(asset["name"]): asset for asset in one["assets"]}
    isos = [name for name in assets if name.lower().endswith(".iso")]
    name = ISO if ISO in isos else isos[0] if len(isos) == 1 else ""
    if not name:
        return None
    asset = assets[name]
    published = str(asset.get("digest") or "")  # GitHub's own, for what was uploaded since 2025
    if published.startswith("sha256:"):
        sha256 = published.removeprefix("sha256:").lower()
        if SHA256.fullmatch(sha256) is None:
            raise ValueError(f"{published!r} is no hash")
    else:
        quoted = re.search(QUOTED_SHA256 % re.escape(name), str(one.get("body") or ""))
        sha256 = quoted[1] if quoted else ""
    return Release(str(one["tag_name"]).removeprefix("v"), str(asset["browser_download_url"]), sha256)
