"""Which release of boot2docker is the last one: GitHub is asked; what is known by heart stands in."""

import re
from dataclasses import dataclass
from typing import Any

from b2d import web
from b2d.errors import DownloadFailed
from b2d.ports import Reporter

BOOT2DOCKER = "https://api.github.com/repos/boot2docker/boot2docker/releases"
ISO = "boot2docker.iso"
# release notes quote the output of sha256sum
QUOTED_SHA256 = re.compile(rf"\b([0-9a-f]{{64}})\s+\*?{re.escape(ISO)}\b")


@dataclass(frozen=True, slots=True)
class Release:
    """A release's ISO; an empty sha256 is one that nobody published."""

    version: str
    url: str
    sha256: str = ""


# the last there will be: the project was archived after it (2020-06-29)
LAST_KNOWN = Release(
    "19.03.12", "https://github.com/boot2docker/boot2docker/releases/download/v19.03.12/boot2docker.iso"
)


def boot2docker_release(reporter: Reporter, api: str = BOOT2DOCKER, known: Release = LAST_KNOWN) -> Release:
    """The newest release of boot2docker; `known`, with a warning, when it cannot be asked for."""
    try:
        return newest_release(api)
    except DownloadFailed as error:
        reporter.warn(f"the releases could not be listed, so {known.version} it is: {error.message}")
        return known


def newest_release(api: str) -> Release:
    """The first full release with an ISO that a releases API (GitHub's or an Enterprise's) lists.

    Raises DownloadFailed.
    """
    with web.answer(api, {"Accept": "application/vnd.github+json"}) as response:
        web.refuse(response)
        content = web.content(response)
    try:
        full = (one for one in _json(content) if not one.get("prerelease") and not one.get("draft"))
        release = next((found for one in full if (found := _release(one))), None)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DownloadFailed(f"{api} does not answer as a releases API does", details=repr(error)) from error
    if release is None:
        raise DownloadFailed(f"{api} lists no release with an ISO")
    return release


def _json(content: bytes) -> Any:
    import json

    return json.loads(content)


def _release(one: dict[str, Any]) -> Release | None:
    """None when it has no ISO."""
    asset = next((asset for asset in one["assets"] if asset["name"] == ISO), None)
    if asset is None:
        return None
    published = str(asset.get("digest") or "")  # GitHub's own, for what was uploaded since 2025
    if published.startswith("sha256:"):
        sha256 = published.removeprefix("sha256:")
    else:
        quoted = QUOTED_SHA256.search(str(one.get("body") or ""))
        sha256 = quoted[1] if quoted else ""
    return Release(str(one["tag_name"]).removeprefix("v"), str(asset["browser_download_url"]), sha256)
