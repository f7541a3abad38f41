"""The chosen accelerator works, and emulation is explained in one line."""

from pathlib import Path

import pytest

from b2d.drivers.qemu.accelerator import Accelerator, choose

INTEL = "processor\t: 0\nflags\t\t: fpu vme vmx sse2\n"
AMD = "processor\t: 0\nflags\t\t: fpu svm sse2\n"
NEITHER = "processor\t: 0\nmodel name\t: vmx svm\nflags\t\t: fpu vme sse2 hypervisor\n"


@pytest.fixture
def kvm(tmp_path: Path) -> Path:
    """Create a device that can be opened."""
    device = tmp_path / "kvm"
    device.touch()
    return device


def on_linux(tmp_path: Path, kvm: Path, cpuinfo: str) -> Accelerator:
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    return choose("auto", "linux", kvm, tmp_path / "cpuinfo")


@pytest.mark.parametrize("cpuinfo", [INTEL, AMD], ids=["vmx", "svm"])
def test_kvm_is_used_if_the_device_opens_and_the_cpu_supports_it(tmp_path: Path, kvm: Path, cpuinfo: str) -> None:
    assert on_linux(tmp_path, kvm, cpuinfo) == Accelerator("kvm")


def test_a_device_that_opens_does_not_prove_kvm(tmp_path: Path, kvm: Path) -> None:
    chosen = on_linux(tmp_path, kvm, NEITHER)
    assert chosen.name == "tcg"
    assert "neither vmx nor svm" in chosen.reason


def test_without_the_device_the_machine_is_emulated(tmp_path: Path) -> None:
    chosen = on_linux(tmp_path, tmp_path / "kvm", INTEL)
    assert chosen.name == "tcg"
    assert str(tmp_path / "kvm") in chosen.reason


def test_a_device_that_does_not_open_is_reported_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "kvm").mkdir()
    chosen = on_linux(tmp_path, tmp_path / "kvm", INTEL)
    assert chosen.name == "tcg"
    assert "Is a directory" in chosen.reason


def test_an_unreadable_cpuinfo_does_not_prove_kvm(tmp_path: Path, kvm: Path) -> None:
    assert choose("auto", "linux", kvm, tmp_path / "absent").name == "tcg"


@pytest.mark.parametrize(("platform", "name"), [("darwin", "hvf"), ("win32", "whpx")])
def test_other_systems_use_their_own_accelerators(platform: str, name: str) -> None:
    assert choose("auto", platform) == Accelerator(name)


def test_an_unknown_system_uses_emulation() -> None:
    chosen = choose("auto", "freebsd14")
    assert chosen.name == "tcg"
    assert "freebsd14" in chosen.reason


def test_a_requested_accelerator_is_used_without_a_check(tmp_path: Path) -> None:
    assert choose("kvm", "linux", tmp_path / "absent", tmp_path / "absent") == Accelerator("kvm")
    assert choose("tcg") == Accelerator("tcg")


@pytest.mark.parametrize(("name", "cpu"), [("kvm", "host"), ("hvf", "host"), ("tcg", "qemu64"), ("whpx", "qemu64")])
def test_only_kvm_and_hvf_use_the_host_cpu(name: str, cpu: str) -> None:
    assert Accelerator(name).cpu == cpu


def test_the_reason_is_one_line(tmp_path: Path, kvm: Path) -> None:
    assert "\n" not in on_linux(tmp_path, kvm, NEITHER).reason
