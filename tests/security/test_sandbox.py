"""QEMU starts in its sandbox; without it only when it was built that way."""

from pathlib import Path

import pytest

from b2d.doctor import programs
from b2d.doctor.finding import Verdict, ok
from b2d.drivers.qemu import sandbox
from b2d.drivers.qemu.launcher import Launcher
from b2d.errors import HypervisorError
from b2d.host.package_managers import Installer
from b2d.paths import MachinePaths
from tests.support import tiny_guest
from tests.unit.drivers.qemu.test_command_line import DIRECT
from tests.unit.drivers.qemu.test_launcher import driver, paths, qemu_arguments, write_saved_state

__all__ = ["paths"]  # the fixture
WITHOUT = "There is no option group 'sandbox'"
SCRIPT = """#!/bin/sh
echo "$*" >>"{folder}/calls"
case $* in *-sandbox*) {with_sandbox} ;; esac
echo "qemu-system-x86_64: no luck" >&2
exit 1
"""


def calls(paths: MachinePaths, with_sandbox: str) -> tuple[list[str], str]:
    """Run a QEMU that executes this script when called with a sandbox; return its calls and the error message."""
    folder = paths.folder.parent
    (folder / "bin" / "qemu-system-x86_64").write_text(SCRIPT.format(folder=folder, with_sandbox=with_sandbox))
    machine = driver(paths, tiny_guest.spec())
    machine.create(b"payload")
    with pytest.raises(HypervisorError) as caught:
        machine.start()
    return (folder / "calls").read_text().splitlines(), caught.value.message


def test_qemu_is_started_in_the_strictest_sandbox(paths: MachinePaths) -> None:
    driver(paths, tiny_guest.spec()).create(b"payload")
    words = qemu_arguments(paths, tiny_guest.spec())
    assert words[:2] == ["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]
    assert "-daemonize" not in words  # spawn=deny would kill it


@pytest.mark.parametrize(
    "with_sandbox",
    [
        f'echo "qemu-system-x86_64: -sandbox on: {WITHOUT}" >&2; exit 1',
        'echo "qemu-system-x86_64: -sandbox on: seccomp support is disabled" >&2; exit 1',
        "kill -SYS $$",
    ],
    ids=["no option", "disabled", "killed by it"],
)
def test_a_qemu_without_sandbox_support_is_started_without_it(paths: MachinePaths, with_sandbox: str) -> None:
    command_lines, message = calls(paths, with_sandbox)
    assert ["-sandbox" in call for call in command_lines] == [True, False]
    assert message == "QEMU did not start: no luck"
    assert "started without" in paths.qemu_log.read_text()


@pytest.mark.parametrize(
    "complaint", ["Could not open 'disk.qcow2'", 'Failed to get \\"write\\" lock', "no such device"]
)
def test_other_errors_do_not_start_it_without_the_sandbox(paths: MachinePaths, complaint: str) -> None:
    command_lines, message = calls(paths, f'echo "qemu-system-x86_64: {complaint}" >&2; exit 1')
    assert len(command_lines) == 1
    assert complaint.replace("\\", "") in message
    assert not paths.qemu_record.exists()


def test_a_state_saved_before_the_sandbox_existed_is_resumed(paths: MachinePaths) -> None:
    spec = tiny_guest.spec()
    hardware = Launcher(spec, paths, lambda: DIRECT, "tcg").plan().hardware
    write_saved_state(paths, spec, hardware=[*hardware[:2], "-daemonize", *hardware[2:]])
    assert qemu_arguments(paths, spec)[-1] == "-S"


def test_a_file_name_is_not_mistaken_for_a_sandbox_error(tmp_path: Path) -> None:
    assert sandbox.is_refused(1, f"qemu-system-x86_64: -sandbox on: {WITHOUT}")
    assert not sandbox.is_refused(1, "qemu-system-x86_64: Could not open disk.qcow2")
    assert not sandbox.is_refused(1, "")
    assert not sandbox.is_refused(1, "qemu-system-x86_64: -fsdev local,path=/home/me/sandbox: No such file")


@pytest.mark.parametrize(
    ("code", "has_filter", "verdict"),
    [(0, True, Verdict.GOOD), (1, True, Verdict.DOUBTFUL), (0, False, Verdict.DOUBTFUL)],
)
def test_doctor_reports_missing_confinement(tmp_path: Path, code: int, has_filter: bool, verdict: Verdict) -> None:
    program = tmp_path / "qemu-system-x86_64"
    program.write_text(f"#!/bin/sh\nexit {code}\n")
    program.chmod(0o755)
    finding = programs.check_confinement(Installer(which=lambda _: str(program)), lambda: has_filter)
    assert finding.verdict == verdict


@pytest.mark.parametrize(("apart", "verdict"), [(True, Verdict.GOOD), (False, Verdict.DOUBTFUL)])
def test_doctor_reports_a_virtiofsd_that_is_not_confined(apart: bool, verdict: Verdict) -> None:
    qemu = ok("qemu", "QEMU emulator version 10.0.13")
    finding = programs.check_folder_sharing(Installer(), qemu, lambda: ((1, 13), "/v"), lambda: apart)
    assert finding.verdict == verdict
    assert ("not confined to its folder" in finding.message) is not apart
