"""b2d's own image in the store: it is not built again from the same inputs, and repaired from its ISO."""

from pathlib import Path

import pytest

from b2d.app import wiring
from b2d.host.files import hash_of, private_folder
from b2d.image.build.builder import BuildRequest, plan_build
from b2d.image.image_store import ImageStore
from b2d.models import Image
from b2d.paths import Home
from tests.support.debian_mirror import flip_bit
from tests.support.fakes import FakeReporter

pytestmark = [pytest.mark.network, pytest.mark.needs("network")]


def test_a_debian_image_is_not_rebuilt_from_the_same_packages(iso: Path, test_cache: Path, tmp_path: Path) -> None:
    environment = {"B2D_HOME": str(tmp_path / "home")}
    app = wiring.make_app(environment, {}, FakeReporter())
    private_folder(app.home.cache)
    (app.home.cache / "packages").symlink_to(private_folder(test_cache / "packages"))
    stored = app.images.add_copy(iso, "debian")
    request = BuildRequest("amd64", "", app.home.cache, tmp_path / "b2d.iso")
    made_of = plan_build(request, FakeReporter()).fingerprint
    app.home.last_build.write_text(f"{made_of} {stored.sha256}")
    reporter = FakeReporter()
    assert wiring.make_app(environment, {}, reporter).supply.obtain("debian") == stored
    assert "writing the ISO" not in reporter.texts("step")


def test_the_real_image_is_also_stored_uncompressed(image: Image, tmp_path: Path) -> None:
    images = ImageStore(Home(tmp_path / "home"))
    stored = images.add_copy(image.iso, "debian")
    assert stored.stored is not None and image.stored is not None
    whole = hash_of(stored.stored)
    assert whole == hash_of(image.stored)
    stored.stored.write_bytes(flip_bit(stored.stored.read_bytes()))
    images.verify(stored)
    assert hash_of(stored.stored) == whole
