"""The wiring of settings: a new machine, its image and its driver."""

import shutil
import subprocess
from pathlib import Path

import psutil
import pytest

from b2d.app import wiring
from b2d.app.wiring import App
from b2d.drivers.virtualbox.driver import VirtualBoxDriver
from b2d.errors import B2dError, ConfigError, DownloadError, HypervisorError, ImageError
from b2d.image.source import describe_source
from b2d.models import MachineSpec, MachineState
from tests.support.fakes import FakeReporter, a_spec
from tests.support.kernel_images import a_b2d_iso

VERSION = "26.1.5-6.12.117"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def iso_file(tmp_path: Path) -> Path:
    path = tmp_path / "an image.iso"
    path.write_bytes(a_b2d_iso())
    return path


def an_app(folder: Path, **flags: object) -> App:
    return wiring.make_app({"B2D_HOME": str(folder)}, flags, FakeReporter())


def wished(folder: Path, **flags: object) -> MachineSpec:
    app = an_app(folder, **flags)
    return app.with_image(app.new_machine_spec())


def test_a_new_machine_follows_the_settings(folder: Path, iso_file: Path) -> None:
    spec = wished(folder, vm="box", image=str(iso_file), memory=700, cpus=2, disk=5000, ssh_port=3022, restrict=True)
    image = an_app(folder).images.find(str(iso_file))
    assert image is not None
    assert image.version == VERSION
    assert (spec.name, spec.source, spec.image) == ("box", str(iso_file), image.sha256)
    assert (spec.memory_mib, spec.cpus, spec.disk_mib) == (700, 2, 5000)
    assert (spec.ssh_port, spec.docker_port) == (3022, 2376)
    assert (spec.driver, spec.tls, spec.restrict) == ("qemu", True, True)
    assert spec.address == ""  # chosen at creation


def test_the_visible_folders_of_the_home_are_shared(folder: Path, iso_file: Path, tmp_path: Path) -> None:
    for name in ("src", "work", ".ssh", "snap"):
        (tmp_path / "me" / name).mkdir(parents=True)
    me = tmp_path / "me"
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(VirtualBoxDriver, "check", lambda _: None)
        patches.setenv("HOME", str(me))
        spec = wished(folder, image=str(iso_file))
        assert (spec.share, spec.folders) == ((f"{me}/*",), (f"{me}/src", f"{me}/work"))
        assert wished(folder, image=str(iso_file), driver="virtualbox").folders == (f"{me}/src", f"{me}/work")
        shared = wished(folder, image=str(iso_file), driver="virtualbox", share=("~/src:ro", "/data/"))
        assert shared.folders == (f"{me}/src:ro", "/data")
        patches.setenv("HOME", "/home/docker")
        assert (
            wished(folder, image=str(iso_file), driver="virtualbox").folders == ()
        )  # reserved for the guest's own user
        with pytest.raises(ConfigError, match="has its own"):
            wished(folder, image=str(iso_file), driver="virtualbox", share=("~",))


@pytest.mark.parametrize(("flags", "port"), [({}, 2376), ({"tls": False}, 2375), ({"tls": False, "docker_port": 9}, 9)])
def test_the_port_of_docker_follows_tls_unless_it_is_set(
    folder: Path, iso_file: Path, flags: dict[str, object], port: int
) -> None:
    spec = wished(folder, image=str(iso_file), **flags)
    assert (spec.docker_port, spec.guest_docker_port) == (port, 2376)


def test_a_machine_has_the_requested_address(folder: Path, iso_file: Path) -> None:
    assert wished(folder, vm="third", image=str(iso_file), address="127.0.0.1").address == "127.0.0.1"


def test_the_default_memory_is_at_most_half_of_this_host_s(
    folder: Path, iso_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def host_has(mib: int) -> None:
        memory = psutil.virtual_memory()._replace(total=mib << 20)
        monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)

    host_has(16384)
    assert wished(folder, image=str(iso_file)).memory_mib == 2048
    host_has(3000)
    assert wished(folder, image=str(iso_file)).memory_mib == 1500
    host_has(600)
    assert wished(folder, image=str(iso_file)).memory_mib == 512
    assert wished(folder, image=str(iso_file), memory=2048).memory_mib == 2048


def test_a_stored_image_is_not_downloaded_again(folder: Path, iso_file: Path) -> None:
    """There is no network, so a download would fail."""
    stored = an_app(folder).images.add_copy(iso_file, "debian")
    assert wished(folder).image == stored.sha256
    stored = an_app(folder).images.add_copy(iso_file, "http://127.0.0.1:1/b2d.iso")
    assert wished(folder, image="http://127.0.0.1:1/b2d.iso").image == stored.sha256


def test_a_changed_file_is_imported_again(folder: Path, iso_file: Path) -> None:
    before = wished(folder, image=str(iso_file)).image
    iso_file.write_bytes(a_b2d_iso() + bytes(2048))
    after = wished(folder, image=str(iso_file)).image
    assert after != before
    assert an_app(folder).images.get(after).size == iso_file.stat().st_size


def test_an_invalid_image_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.iso"
    text.write_text("no image")
    with pytest.raises(ImageError):
        wished(folder, image=str(text))
    assert an_app(folder).images.all() == []


def test_an_unreachable_address_is_reported(folder: Path) -> None:
    with pytest.raises(DownloadError) as caught:
        wished(folder, image="https://127.0.0.1:1/b2d.iso")
    assert caught.value.exit_code == 7
    assert an_app(folder).images.all() == []


def test_a_file_removed_before_its_import_is_reported(folder: Path, iso_file: Path) -> None:
    iso_file.unlink()
    with pytest.raises(B2dError, match="an image"):
        an_app(folder).supply.obtain(str(iso_file))


def test_no_image_is_imported_on_a_host_that_cannot_run_it(
    folder: Path, iso_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(folder))
    app = an_app(folder, image=str(iso_file))
    with pytest.raises(HypervisorError):
        app.machine().init(app)
    assert an_app(folder).images.all() == []


@pytest.mark.parametrize("source", ["debian", "boot2docker", "https://example.com/an.iso", "http://x/"])
def test_a_source_that_is_not_a_file_is_described_unchanged(source: str) -> None:
    assert describe_source(source) == source


def test_a_file_is_described_by_its_absolute_path(iso_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(iso_file.parent)
    monkeypatch.setenv("HOME", str(iso_file.parent))
    for source in (iso_file.name, f"./{iso_file.name}", f"~/{iso_file.name}", str(iso_file)):
        assert describe_source(source) == str(iso_file)


@pytest.mark.parametrize("source", ["", ".", "debain", "no/such.iso", "~nobody-of-that-name/x.iso"])
def test_an_invalid_source_is_refused(source: str) -> None:
    with pytest.raises(ConfigError) as caught:
        describe_source(source)
    assert caught.value.exit_code == 2
    assert "debian" in caught.value.hint


def test_the_machine_is_the_given_one_or_that_of_the_settings(folder: Path) -> None:
    assert an_app(folder).machine().name == "boot2docker-vm"
    assert an_app(folder, vm="box").machine().name == "box"
    assert an_app(folder, vm="box").machine("other").name == "other"
    assert an_app(folder).machine().state() == MachineState.ABSENT
    assert not folder.exists()


def test_an_unknown_hypervisor_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError):
        an_app(folder).driver(a_spec(driver="abacus"))


def test_a_machine_is_created_with_a_real_disk(folder: Path, iso_file: Path) -> None:
    assert shutil.which("qemu-img")
    app = an_app(folder, vm="box", image=str(iso_file))
    assert app.machine().init(app) is True
    paths = app.home.machine("box")
    assert app.machine().state() == MachineState.STOPPED
    raw = subprocess.run(
        ["qemu-img", "dd", "-O", "raw", "bs=4096", "count=1", f"if={paths.disk_qcow2}", f"of={folder}/start"],
        check=True,
        capture_output=True,
    )
    assert raw.returncode == 0
    start = (folder / "start").read_bytes()
    assert start.startswith(b"boot2docker, please format-me")
    assert paths.ssh_public_key.read_bytes() in start
    app.machine().delete()
    assert not paths.folder.exists()
