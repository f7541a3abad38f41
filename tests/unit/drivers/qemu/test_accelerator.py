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
def test_kvm_where_the_device_opens_and_the_cpu_has_it(tmp_path: Path, kvm: Path, cpuinfo: str) -> None:
    assert on_linux(tmp_path, kvm, cpuinfo) == Accelerator("kvm")


def test_a_device_that_opens_is_no_proof(tmp_path: Path, kvm: Path) -> None:
    chosen = on_linux(tmp_path, kvm, NEITHER)
    assert chosen.name == "tcg"
    assert "neither vmx nor svm" in chosen.reason


def test_without_the_device_the_machine_is_emulated(tmp_path: Path) -> None:
    chosen = on_linux(tmp_path, tmp_path / "kvm", INTEL)
    assert chosen.name == "tcg"
    assert str(tmp_path / "kvm") in chosen.reason


def test_a_device_that_does_not_open_is_named_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "kvm").mkdir()
    chosen = on_linux(tmp_path, tmp_path / "kvm", INTEL)
    assert chosen.name == "tcg"
    assert "Is a directory" in chosen.reason


def test_an_unreadable_cpuinfo_is_no_proof_either(tmp_path: Path, kvm: Path) -> None:
    assert choose("auto", "linux", kvm, tmp_path / "absent").name == "tcg"


@pytest.mark.parametrize(("platform", "name"), [("darwin", "hvf"), ("win32", "whpx")])
def test_other_systems_have_their_own(platform: str, name: str) -> None:
    assert choose("auto", platform) == Accelerator(name)


def test_a_system_without_one_emulates() -> None:
    chosen = choose("auto", "freebsd14")
    assert chosen.name == "tcg"
    assert "freebsd14" in chosen.reason


def test_what_was_asked_for_is_taken_without_a_word(tmp_path: Path) -> None:
    assert choose("kvm", "linux", tmp_path / "absent", tmp_path / "absent") == Accelerator("kvm")
    assert choose("tcg") == Accelerator("tcg")


@pytest.mark.parametrize(("name", "cpu"), [("kvm", "host"), ("hvf", "host"), ("tcg", "qemu64"), ("whpx", "qemu64")])
def test_only_a_cpu_that_is_passed_through_is_the_hosts(name: str, cpu: str) -> None:
    assert Accelerator(name).cpu == cpu


def test_the_reason_is_one_line(tmp_path: Path, kvm: Path) -> None:
    assert "\n" not in on_linux(tmp_path, kvm, NEITHER).reason
