"""The doctor finds what is missing, suggests a fix, and applies it on request."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from b2d.doctor import programs
from b2d.doctor.examination import Examination, Finding, MachineChecks, Verdict
from b2d.doctor.fixes import apply_fixes
from b2d.errors import B2dError, HypervisorError
from b2d.guest.readiness import Ping
from b2d.host.package_managers import DOCKER, MANAGERS, QEMU, QEMU_IMG, SQUASHFS, Installer
from b2d.host_agent.report import Refusal
from b2d.machine.exposure import Exposure
from b2d.machine_store.store import MachineStore
from b2d.models import MachineSpec, MachineState
from b2d.paths import Home
from tests.support.fakes import FakeImages, FakeReporter

ALL = (QEMU, QEMU_IMG, SQUASHFS, DOCKER)  # packages that exist for every package manager


class FakeHost:
    """A host with some programs installed; it records what is run."""

    def __init__(self, *programs: str, docker_cli: bool = True, fails: B2dError | None = None) -> None:
        self.programs = set(programs)
        self.docker_cli = docker_cli
        self.fails = fails
        self.ran: list[str] = []

    def which(self, program: str) -> str | None:
        return f"/usr/bin/{program}" if program in self.programs else None

    def run(self, arguments: Sequence[str], timeout_s: float) -> bytes:
        if arguments[0] == "apt-cache":
            return b"docker-cli:\n  Candidate: 26.1.5\n" if self.docker_cli else b""
        self.ran.append(" ".join(arguments))
        if self.fails is not None:
            raise self.fails
        return b""

    def installer(self, *, is_root: bool = True) -> Installer:
        return Installer(self.which, self.run, is_root)


def a_program(folder: Path, name: str, script: str) -> str:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def no_virtualbox() -> str:
    raise HypervisorError("VirtualBox is not installed", hint="install it")


class StoppedMachines:
    """A probe of a home whose machines are all off, and harmless."""

    def state(self, spec: MachineSpec) -> MachineState:
        return MachineState.STOPPED

    def ping(self, spec: MachineSpec, timeout_s: float) -> Ping | None:
        return None

    def exposures(self, spec: MachineSpec, state: MachineState) -> Sequence[Exposure]:
        return ()

    def refusals(self, name: str) -> Sequence[Refusal] | None:
        return None


def an_examination(tmp_path: Path, **changes: object) -> Examination:
    home = changes.get("home", Home(tmp_path / "home"))
    assert isinstance(home, Home)
    sound = Examination(
        home=home,
        mirror=lambda: "http://mirror.example/debian",
        accelerator=lambda: ("kvm", ""),
        virtualbox=no_virtualbox,
        machine_checks=MachineChecks(home, StoppedMachines(), FakeImages({})),
        spare_images=lambda _: [],
        virtiofsd=lambda: ((0, 0), ""),
    )
    return replace(sound, **changes)  # type: ignore[arg-type]


def finding(examination: Examination, name: str) -> Finding:
    return next(candidate for candidate in examination.findings() if candidate.name == name)


def with_programs(tmp_path: Path, **scripts: str) -> Installer:
    """Return an installer that sees these programs only, which really run."""
    paths = {name.replace("_", "-"): a_program(tmp_path, name, script) for name, script in scripts.items()}
    return Installer(paths.get, FakeHost().run, True)


def test_this_host_meets_all_requirements(tmp_path: Path) -> None:
    findings = list(an_examination(tmp_path).findings())
    assert [item.name for item in findings if item.verdict == Verdict.BAD] == []
    names = [item.name for item in findings]
    assert names == [
        *("python", "qemu", "folders", "confinement", "qemu-img", "virtualbox", "mksquashfs", "acceleration"),
        *("home", "file system", "disk space", "temporary folder", "secrets", "stale files", "images", "templates"),
        *("docker", "proxies", "authorities", "mirror", "docker variables"),
    ]
    assert "QEMU emulator version" in findings[1].message
    assert "mksquashfs version" in findings[6].message


def test_virtualbox_is_required_only_when_machines_use_it(tmp_path: Path) -> None:
    beside = finding(an_examination(tmp_path), "virtualbox")
    assert (beside.verdict, beside.fix) == (Verdict.GOOD, "install it")
    assert finding(an_examination(tmp_path, hypervisor="virtualbox"), "virtualbox").verdict == Verdict.BAD
    installed = an_examination(tmp_path, virtualbox=lambda: "7.2, through /somewhere")
    assert finding(installed, "virtualbox").message == "7.2, through /somewhere"


def test_qemu_is_optional_when_machines_use_virtualbox(tmp_path: Path) -> None:
    examination = an_examination(tmp_path, installer=FakeHost("apt-get").installer(), hypervisor="virtualbox")
    assert finding(examination, "qemu").verdict == finding(examination, "qemu-img").verdict == Verdict.DOUBTFUL


def test_an_examination_creates_nothing(tmp_path: Path) -> None:
    list(an_examination(tmp_path).findings())
    assert list(tmp_path.iterdir()) == []


def test_missing_programs_are_reported_with_the_install_command(tmp_path: Path) -> None:
    examination = an_examination(tmp_path, installer=FakeHost("apt-get").installer())
    qemu = finding(examination, "qemu")
    assert qemu.verdict == Verdict.BAD and qemu.needs == (QEMU,)
    assert qemu.fix == "apt-get update && apt-get install -y --no-install-recommends qemu-system-x86"
    assert finding(examination, "mksquashfs").verdict == Verdict.DOUBTFUL
    assert finding(examination, "docker").fix.endswith("install -y --no-install-recommends docker-cli")


def test_a_program_that_fails_is_not_accepted(tmp_path: Path) -> None:
    examination = an_examination(tmp_path, installer=with_programs(tmp_path, qemu_img="echo broken >&2; exit 1"))
    broken = finding(examination, "qemu-img")
    assert broken.verdict == Verdict.BAD and "broken" in broken.message


def test_an_untested_old_qemu_is_doubtful(tmp_path: Path) -> None:
    old = with_programs(tmp_path, qemu_system_x86_64="echo QEMU emulator version 5.2.0")
    examination = an_examination(
        tmp_path, installer=Installer(lambda name: str(tmp_path / "qemu_system_x86_64"), old.run, True)
    )
    assert finding(examination, "qemu").verdict == Verdict.DOUBTFUL


def test_an_old_python_is_bad(tmp_path: Path) -> None:
    assert finding(an_examination(tmp_path, python=(3, 10)), "python").verdict == Verdict.BAD


def test_emulation_is_doubtful_and_the_reason_is_reported(tmp_path: Path) -> None:
    acceleration = finding(
        an_examination(tmp_path, accelerator=lambda: ("tcg", "there is no /dev/kvm")), "acceleration"
    )
    assert acceleration.verdict == Verdict.DOUBTFUL and "there is no /dev/kvm" in acceleration.message


@pytest.mark.parametrize(
    ("client", "machine", "verdict", "named"),
    [
        ("1.45", "1.45", Verdict.GOOD, "API 1.45"),
        ("1.41", "1.45", Verdict.GOOD, "the machine has 1.45"),
        ("1.9", "1.45", Verdict.BAD, "too old"),
        ("1.52", "1.40", Verdict.DOUBTFUL, "too new"),
        ("1.52", "1.44", Verdict.GOOD, "the machine has 1.44"),
        ("nonsense", "", Verdict.DOUBTFUL, "does not print its API version"),
    ],
)
def test_the_docker_client_is_compared_by_its_api_version(
    tmp_path: Path, client: str, machine: str, verdict: Verdict, named: str
) -> None:
    script = f'[ "$DOCKER_HOST" = unix:///nonexistent/docker.sock ] && echo {client}; exit 1'
    installer = with_programs(tmp_path, docker=script)
    comparison = programs.check_docker(installer, {}, machine, "box" if machine else "")
    assert comparison.verdict == verdict and named in comparison.message


def test_a_home_below_a_file_is_bad(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    home = finding(an_examination(tmp_path, home=Home(tmp_path / "file" / "home")), "home")
    assert home.verdict == Verdict.BAD


def test_a_long_home_path_is_good(tmp_path: Path) -> None:
    home = finding(an_examination(tmp_path, home=Home(tmp_path / ("x" * 90) / ("y" * 90))), "home")
    assert home.verdict == Verdict.GOOD


def test_an_invalid_mirror_address_is_bad(tmp_path: Path) -> None:
    assert finding(an_examination(tmp_path, mirror=lambda: "mirror"), "mirror").verdict == Verdict.BAD


def test_a_mirror_that_cannot_be_chosen_is_doubtful(tmp_path: Path) -> None:
    def none() -> str:
        raise B2dError("no mirror", hint="b2d config set mirror=…")

    assert finding(an_examination(tmp_path, mirror=none), "mirror").verdict == Verdict.DOUBTFUL


@pytest.mark.needs("posix")
def test_a_key_readable_by_others_is_found_and_fixed(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    paths = home.machine("one")
    paths.folder.mkdir(parents=True, mode=0o700)
    home.root.chmod(0o700)
    paths.ssh_key.write_text("secret")
    paths.ssh_key.chmod(0o644)
    examination = an_examination(tmp_path, home=home)
    secrets = finding(examination, "secrets")
    assert secrets.verdict == Verdict.BAD and str(paths.ssh_key) in secrets.message

    apply_fixes([secrets], home, FakeHost().installer(), FakeReporter())
    assert paths.ssh_key.stat().st_mode & 0o777 == 0o600
    assert finding(examination, "secrets").verdict == Verdict.GOOD


def test_the_lock_of_a_machine_needs_no_privacy(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    with MachineStore(home).lock("one", "up"):
        assert finding(an_examination(tmp_path, home=home), "secrets").verdict == Verdict.GOOD
    assert finding(an_examination(tmp_path, home=home), "secrets").verdict == Verdict.GOOD


def test_all_missing_programs_are_installed_at_once(tmp_path: Path) -> None:
    host = FakeHost("apt-get")
    examination = an_examination(tmp_path, installer=host.installer())
    apply_fixes(examination.findings(), examination.home, examination.installer, FakeReporter())
    assert host.ran == [
        "apt-get update",
        "apt-get install -y --no-install-recommends qemu-system-x86 qemu-utils squashfs-tools docker-cli",
    ]


def test_nothing_is_run_if_nothing_is_missing(tmp_path: Path) -> None:
    host = FakeHost("apt-get")
    apply_fixes([Finding("python", Verdict.GOOD, "3.11")], Home(tmp_path), host.installer(), FakeReporter())
    assert host.ran == []


def test_debian_12_has_the_client_in_another_package() -> None:
    line = FakeHost("apt-get", docker_cli=False).installer().line([DOCKER])
    assert line.endswith(" docker.io")


@pytest.mark.parametrize("manager", MANAGERS, ids=lambda manager: manager.program)
def test_every_package_manager_has_an_install_command_for_the_requirements(manager: object) -> None:
    program = getattr(manager, "program", "")
    line = FakeHost(program).installer().line([QEMU, QEMU_IMG, DOCKER])
    assert line.startswith(program) and "qemu" in line.lower() and "docker" in line.lower()


def test_winget_gets_one_package_at_a_time() -> None:
    commands = FakeHost("winget").installer().commands(ALL)
    assert [command[-1] for command in commands] == ["SoftwareFreedomConservancy.QEMU", "Docker.DockerCLI"]


def test_ordinary_users_install_with_sudo() -> None:
    line = FakeHost("dnf", "sudo").installer(is_root=False).line([QEMU])
    assert line == "sudo dnf install -y qemu-system-x86-core"


def test_homebrew_is_never_run_as_root() -> None:
    assert FakeHost("brew", "sudo").installer(is_root=False).line([QEMU, QEMU_IMG]) == "brew install qemu"


def test_without_permission_to_install_the_command_is_shown() -> None:
    host = FakeHost("pacman")
    with pytest.raises(B2dError) as failure:
        host.installer(is_root=False).install([QEMU])
    assert failure.value.hint == "as root: pacman -S --needed --noconfirm qemu-system-x86"
    assert host.ran == []


def test_a_failed_installation_is_reported_with_its_command_and_output() -> None:
    host = FakeHost("apk", fails=B2dError("apk failed", details="no network"))
    with pytest.raises(B2dError) as failure:
        host.installer().install([QEMU])
    assert (failure.value.hint, failure.value.details) == ("apk add qemu-system-x86_64", "no network")


def test_a_host_without_a_known_package_manager_is_reported() -> None:
    with pytest.raises(B2dError, match="cannot be installed automatically"):
        FakeHost().installer().install([QEMU])
