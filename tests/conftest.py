"""Shared fixtures: b2d's own image, built for real and cached while a new build would be identical."""

import ctypes
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import settings

from b2d.host.files import private_folder
from b2d.image.build.builder import BuildRequest, build_image
from b2d.image.image_store import ImageStore
from b2d.models import Image
from b2d.network import endpoints
from b2d.paths import Home
from tests.support import boot2docker_iso, tiny_guest
from tests.support.debian_mirror import LocalDebian, served
from tests.support.fake_machine import Box
from tests.support.fakes import FakeReporter
from tests.support.network_namespace import is_possible
from tests.support.paths import ROOT
from tests.support.requirements import MARKERS, require
from tests.support.shells import COMMANDS, RealShell
from tests.support.virtualbox_case import tiny_iso

KEPT_S = 86400.0
# A host that is a virtual machine itself may have to get each huge page from its own host, in 5 ms, and has smaller
# pages already. So no process of the tests uses huge pages: machines boot in nine tenths of the time here.
PR_SET_THP_DISABLE = 41  # <linux/prctl.h>
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)
# nohup and background jobs of scripts ignore these signals, and so would all processes of the tests
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("b2d", deadline=None)  # slow examples on a busy host are no failures
settings.load_profile("b2d")
DAY = os.environ.setdefault("B2D_TEST_DAY", f"{datetime.now(UTC):%Y-%m-%d}")  # the same day for all processes of a run
NUSHELL, NU = "nushell@0.115.1", "node_modules/@nushell/*/bin/nu"
LONGEST_ID = 60  # characters or bytes of a parameter in a test's name
QUICK = ("unit", "cli")  # tiers that build no image
FIRST = ["virtualbox", "e2e", "qemu", "image", "security"]  # slow tiers start first


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that has boot2docker's real ISO tested in place of the stand-in."""
    parser.addoption("--real-boot2docker", metavar="ISO", type=Path, help="test this boot2docker.iso (19.03.12)")


def pytest_make_parametrize_id(val: object) -> str | None:
    """Keep names of tests short, and the same in all processes: content may be long, and random."""
    return f"{len(val)} long" if isinstance(val, bytes | str) and len(val) > LONGEST_ID else None


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Assign xdist groups: the machines of a group share an address of this host, so they run one at a time.

    Where a module of a user's machine has a network of its own, it is a group.
    """
    tiers = {item: item.path.relative_to(ROOT / "tests").parts[0] for item in items}
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if item.get_closest_marker("virtualbox") is not None:
            item.add_marker(pytest.mark.xdist_group("virtualbox"))
        elif item.get_closest_marker("qemu") is not None:  # users' machines have other addresses than tiny_guest's
            persons = f"person-{item.path.stem}" if is_possible() else "person"
            item.add_marker(pytest.mark.xdist_group(persons if "person" in fixtures else "guest"))
        if "iso" in fixtures:
            assert tiers[item] not in QUICK, f"{item.nodeid} builds an image"
            item.add_marker("network")
    items.sort(key=lambda item: FIRST.index(tiers[item]) if tiers[item] in FIRST else len(FIRST))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test where this host lacks what its markers say that it needs."""
    for need in chain(*(marker.args for marker in item.iter_markers("needs"))):
        require(need)
    for name in MARKERS:
        if item.get_closest_marker(name) is not None:
            require(name)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Check that the groups count: a pytest that is too new for xdist ignores them."""
    if session.config.getoption("loadgroup", default=False):
        grouped = [item for item in session.items if item.get_closest_marker("xdist_group")]
        assert all("@" in item.nodeid for item in grouped), "this pytest is too new for this xdist"


@pytest.fixture(autouse=True)
def isolated_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Isolate every test from the user's own configuration, and every guest from the network; let no disk delay it."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    for name in [name for name in os.environ if name.startswith(("B2D_", "DOCKER_", "BOOT2DOCKER_"))]:
        if not name.startswith("B2D_TEST_"):
            monkeypatch.delenv(name)
    for name in chain(*endpoints.VARIABLES.values()):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("B2D_RESTRICT", "1")


@pytest.fixture
def debian(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalDebian]:
    """Serve a Debian archive on this host."""
    monkeypatch.setenv("NO_PROXY", "*")
    with served(LocalDebian()) as archive:
        yield archive


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    """Yield a machine of the fake hypervisor in a home of its own, not created yet."""
    new_box = Box(Home(tmp_path / "home"))
    yield new_box
    new_box.close()


@pytest.fixture(scope="session")
def test_cache() -> Path:
    """Return the folder that caches packages and the built ISO between runs; safe to delete."""
    return private_folder(Path(os.environ.get("B2D_TEST_CACHE") or Path.home() / ".cache" / "b2d-tests"))


@pytest.fixture(scope="session")
def nu(test_cache: Path) -> Path:
    """Return the folder of nushell, which Debian does not package."""
    if executable := shutil.which("nu"):
        return Path(executable).parent
    require("npm")
    folder = test_cache / NUSHELL
    with _alone(test_cache / "nushell.lock"):
        if not list(folder.glob(NU)):
            subprocess.run(["npm", "install", "--loglevel=error", "--prefix", folder, NUSHELL], check=True)
    return next(folder.glob(NU)).parent


@pytest.fixture(scope="session")
def registry(test_cache: Path) -> str:
    """Return the program of Debian's docker-registry; the package is not installed, as that would start the service."""
    folder = test_cache / "docker-registry"
    program = folder / "usr/bin/docker-registry"
    with _alone(test_cache / "docker-registry.lock"):
        if not program.exists():
            require("apt-get")
            folder.mkdir(exist_ok=True)
            subprocess.run(["apt-get", "-q", "download", "docker-registry"], cwd=folder, check=True)
            subprocess.run(["dpkg", "-x", str(next(folder.glob("*.deb"))), str(folder)], check=True)
    return str(program)


@pytest.fixture(scope="session")
def real_shell(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], RealShell]:
    """Return a factory of shells by name, each with a folder of its own."""

    def create(name: str) -> RealShell:
        path = os.environ["PATH"]
        if name != "nu":
            require(name)
        else:
            path = f"{request.getfixturevalue('nu')}:{path}"
        return RealShell(name, tmp_path_factory.mktemp(name), path)

    return cache(create)


@pytest.fixture(params=list(COMMANDS))
def shell(request: pytest.FixtureRequest, real_shell: Callable[[str], RealShell]) -> RealShell:
    """Return each of the shells in turn."""
    return real_shell(request.param)


@pytest.fixture(scope="session")
def iso(test_cache: Path) -> Path:
    """Return b2d's own image, built today from the current recipe and builder."""
    with _alone(test_cache / "lock"):
        path = test_cache / f"{_key(DAY, 'iso')}.iso"  # packages change every day
        if not path.exists():
            require("network")
            for old in test_cache.glob("*.iso*"):
                if time.time() - old.stat().st_mtime > KEPT_S:  # another checkout may use a younger one
                    old.unlink()
            build_image(BuildRequest("amd64", "", test_cache, path), FakeReporter())
    return path


@pytest.fixture(scope="session", name="boot2docker_iso")
def built_boot2docker_iso(test_cache: Path, pytestconfig: pytest.Config) -> Path:
    """Return the stand-in for boot2docker's ISO, built from the current recipe and builder, or the real one."""
    if real := pytestconfig.getoption("--real-boot2docker"):
        return Path(real).absolute()
    folder = test_cache / "boot2docker"
    with _alone(test_cache / "lock"):
        path = folder / f"{_key('', 'tests/support/boot2docker_recipe')}.iso"
        if not path.exists():
            require("network")
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            boot2docker_iso.build(test_cache, path, FakeReporter())
    return path


@pytest.fixture(scope="session")
def image_home(iso: Path, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Return a home that stores the image."""
    home = Home(private_folder(tmp_path_factory.mktemp("home")))
    ImageStore(home).add_copy(iso, "debian")
    return home


@pytest.fixture(scope="session")
def image(image_home: Home) -> Image:
    """Return the image as it is stored."""
    stored = ImageStore(image_home).find("debian")
    assert stored is not None
    return stored


@pytest.fixture(scope="session")
def own_virtualbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Set up an empty VirtualBox configuration, separate from the user's, and yield the ISO of the tiny guest."""
    folder = tmp_path_factory.mktemp("virtualbox")
    with pytest.MonkeyPatch.context() as patches:
        patches.setenv("VBOX_USER_HOME", str(folder / "home"))
        patches.setenv("VBOX_IPC_SOCKETID", f"b2d-{os.getpid()}")
        yield tiny_iso(folder)


def _key(salt: str, recipe: str) -> str:
    """Return a key that changes with the recipe and the builder of an image."""
    digest = hashlib.sha256(salt.encode())
    made_by = [path for folder in (recipe, "b2d/image/build") for path in (ROOT / folder).rglob("*") if path.is_file()]
    for path in sorted([*made_by, ROOT / "b2d/formats/iso_writer.py", Path(boot2docker_iso.__file__)]):
        if "__pycache__" not in path.parts:
            digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def tiny_image(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Return the image of a guest that boots in two seconds."""
    return tiny_guest.image(image, tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def program() -> Iterator["subprocess.Popen[bytes]"]:
    """Start a foreign process that a file of b2d may name."""
    code = "import sys; sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()
