"""Findings of the doctor on this host and its shell, each with a fix."""

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from b2d.doctor import docker_environment, home_folder, hypervisors, network
from b2d.doctor.examination import Verdict
from b2d.doctor.hypervisors import Hardware
from b2d.errors import B2dError, HypervisorError
from b2d.host.package_managers import Installer
from b2d.paths import Home
from tests.unit.doctor.test_examination import FakeHost, a_program, an_examination, finding


def hardware(tmp_path: Path, flags: str, *, kvm: bool = True) -> Hardware:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nflags\t\t: fpu {flags}\n")
    if kvm:
        (tmp_path / "kvm").touch()
    return Hardware(tmp_path / "kvm", cpuinfo)


@pytest.mark.parametrize(
    ("flags", "kvm", "remedy"),
    [
        ("vmx", False, "sudo modprobe kvm_intel"),
        ("svm", False, "sudo modprobe kvm_amd"),
        ("sse", True, "enable VT-x (Intel) or AMD-V (AMD) in this host's firmware"),
        ("hypervisor", True, "enable nested virtualisation for this virtual machine on its host"),
        ("vmx", True, ""),
    ],
)
def test_the_obstacle_to_kvm_is_reported_with_its_remedy(tmp_path: Path, flags: str, kvm: bool, remedy: str) -> None:
    host = hardware(tmp_path, flags, kvm=kvm)
    slow = an_examination(tmp_path, accelerator=lambda: ("tcg", "slow"), hardware=host, platform="linux")
    assert finding(slow, "acceleration").fix == remedy


def test_without_permission_for_kvm_the_group_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = hardware(tmp_path, "vmx")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert host.remedy() == f"sudo usermod -aG {host.kvm.group()} $USER, then log in again"


def test_a_virtualbox_that_cannot_start_is_bad_only_when_machines_use_it() -> None:
    def broken() -> str:
        raise HypervisorError("its driver is not in the kernel", hint="sudo modprobe vboxdrv")

    assert hypervisors.check_virtualbox(broken, wanted=True).verdict == Verdict.BAD
    result = hypervisors.check_virtualbox(broken, wanted=False)
    assert (result.verdict, result.fix) == (Verdict.GOOD, "sudo modprobe vboxdrv")


def test_virtualbox_without_its_network_driver_is_doubtful(tmp_path: Path) -> None:
    sound = an_examination(tmp_path, virtualbox=lambda: "7.2", platform="linux", network_driver=tmp_path / "ctl")
    assert finding(sound, "virtualbox network").fix == "sudo modprobe vboxnetadp"
    (tmp_path / "ctl").touch()
    assert [item for item in sound.findings() if item.name == "virtualbox network"] == []


@pytest.mark.parametrize(("present", "verdict"), [(True, Verdict.DOUBTFUL), (False, Verdict.GOOD)])
def test_hyper_v_is_found_on_windows(tmp_path: Path, present: bool, verdict: Verdict) -> None:
    hyper_v = finding(an_examination(tmp_path, platform="win32", hyper_v=lambda: present), "hyper-v")
    assert hyper_v.verdict == verdict
    assert ("bcdedit" in hyper_v.fix) is present


@pytest.mark.parametrize(
    ("environment", "verdict", "message"),
    [
        ({}, Verdict.GOOD, "none"),
        ({"HTTPS_PROXY": "proxy:3128", "NO_PROXY": "a, 127.0.59.103"}, Verdict.GOOD, "http://proxy:3128"),
        ({"HTTPS_PROXY": "http://proxy:3128", "no_proxy": "*"}, Verdict.GOOD, "proxy:3128"),
        ({"HTTPS_PROXY": "http://proxy:3128"}, Verdict.DOUBTFUL, "NO_PROXY lacks 127.0.59.103"),
        ({"http_proxy": "http://proxy:port"}, Verdict.DOUBTFUL, "http_proxy is not a valid address"),
        ({"http_proxy": "http://"}, Verdict.DOUBTFUL, "http_proxy is not a valid address"),
        ({"ALL_PROXY": "socks5://proxy:1080"}, Verdict.DOUBTFUL, "is not an HTTP proxy"),
    ],
)
def test_proxies_are_checked_as_requests_uses_them(environment: dict[str, str], verdict: Verdict, message: str) -> None:
    proxies = network.check_proxies(environment, {"dev": "127.0.59.103"})
    assert (proxies.verdict, message in proxies.message) == (verdict, True)
    assert bool(proxies.fix) is (verdict != Verdict.GOOD)


@pytest.mark.parametrize("proxy", ["http://me:geheim@proxy:port", "me:geheim@proxy:3128", "socks5://me:geheim@proxy"])
def test_the_password_of_a_proxy_is_not_shown(proxy: str) -> None:
    assert "geheim" not in network.check_proxies({"HTTP_PROXY": proxy}, {}).message


def test_invalid_ca_files_are_found(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    authorities = network.check_authorities({"REQUESTS_CA_BUNDLE": str(file)})
    assert (authorities.verdict, authorities.fix) == (Verdict.DOUBTFUL, "unset REQUESTS_CA_BUNDLE")
    file.write_text("nothing of the kind")
    assert "there is no certificate" in network.check_authorities({"SSL_CERT_FILE": str(file)}).message
    file.write_text("-----BEGIN CERTIFICATE-----\n")
    assert network.check_authorities({"SSL_CERT_FILE": str(file)}).verdict == Verdict.GOOD
    assert network.check_authorities({"SSL_CERT_DIR": str(tmp_path)}).verdict == Verdict.GOOD
    assert network.check_authorities({}).verdict == Verdict.GOOD


HERE = {"tcp://127.0.59.103:2376": "boot2docker-vm", "tcp://127.0.59.104:2376": "other"}


@pytest.mark.parametrize(
    ("environment", "verdict", "fix"),
    [
        ({}, Verdict.GOOD, ""),
        ({"DOCKER_HOST": "tcp://127.0.59.103:2376"}, Verdict.GOOD, ""),
        ({"DOCKER_HOST": "tcp://127.0.59.104:2376"}, Verdict.DOUBTFUL, "b2d up --vm other"),
        (
            {"DOCKER_HOST": "unix:///var/run/docker.sock"},
            Verdict.DOUBTFUL,
            'eval "$(b2d shellinit)", or: unset DOCKER_HOST',
        ),
        ({"DOCKER_CONTEXT": "default"}, Verdict.DOUBTFUL, "unset DOCKER_CONTEXT"),
        ({"DOCKER_CERT_PATH": "/nowhere"}, Verdict.DOUBTFUL, 'eval "$(b2d shellinit)"'),
        ({"DOCKER_API_VERSION": "1.30"}, Verdict.DOUBTFUL, "unset DOCKER_API_VERSION"),
    ],
)
def test_docker_variables_of_the_shell_are_checked(environment: dict[str, str], verdict: Verdict, fix: str) -> None:
    variables = docker_environment.check_docker_variables(environment, HERE, ["boot2docker-vm"])
    assert (variables.verdict, variables.fix) == (verdict, fix)


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "9p", "fuse.sshfs"])
def test_a_home_on_a_network_file_system_is_doubtful(tmp_path: Path, kind: str) -> None:
    file_system = home_folder.check_file_system(Home(tmp_path), lambda _: kind)
    assert (file_system.verdict, kind in file_system.message) == (Verdict.DOUBTFUL, True)
    assert home_folder.check_file_system(Home(tmp_path), lambda _: "ext4").verdict == Verdict.GOOD


def test_the_file_system_of_this_home_is_detected(tmp_path: Path) -> None:
    assert home_folder.file_system_type(tmp_path) != ""


def test_a_full_or_missing_temporary_folder_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=0))
    assert "0 MiB free" in home_folder.check_temporary_folder().message

    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory")

    monkeypatch.setattr("tempfile.gettempdir", none)
    assert "set TMPDIR" in home_folder.check_temporary_folder().fix


@pytest.mark.parametrize(
    ("qemu", "virtiofsd", "message", "needs"),
    [
        ("7.2.22", ((1, 13), "/v"), "by 9p, as virtiofs needs QEMU 8.2 or newer", ()),
        ("10.0.13", ((1, 13), "/v"), "by virtiofs, /v", ()),
        ("8.2.2", ((1, 10), "/v"), "by 9p, as virtiofs needs virtiofsd 1.11 or newer, and /v is older", ()),
        ("8.2.2", ((0, 0), ""), "by 9p, which is slow with large files: virtiofsd is not installed", ("virtiofsd",)),
    ],
)
def test_the_mount_type_is_reported_with_a_faster_one(
    tmp_path: Path, qemu: str, virtiofsd: tuple[tuple[int, int], str], message: str, needs: tuple[str, ...]
) -> None:
    programs = {"qemu-system-x86_64": a_program(tmp_path, "qemu", f"echo QEMU emulator version {qemu}")}
    programs["apt-get"] = a_program(tmp_path, "apt-get", "exit")
    host = Installer(programs.get, FakeHost().run, True)
    examination = an_examination(tmp_path, installer=host, virtiofsd=lambda: virtiofsd, platform="linux")
    folders = finding(examination, "folders")
    assert (folders.message, folders.needs, bool(folders.fix)) == (message, needs, bool(needs))


def test_a_failing_check_does_not_end_the_examination(tmp_path: Path) -> None:
    def broken(*_: object) -> str:
        raise B2dError("it broke")

    names = ("mirror", "accelerator", "virtualbox", "spare_images")
    everything: dict[str, Callable[..., object]] = dict.fromkeys(names, broken)
    findings = list(an_examination(tmp_path, **everything).findings())
    assert [item.message for item in findings].count("it broke") == 3
