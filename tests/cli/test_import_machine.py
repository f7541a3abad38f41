"""Machines of boot2docker are imported by a copy of their disk, made by the real qemu-img, and stay unchanged."""

import json
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from b2d.errors import InvalidStateError
from b2d.importing.candidates import ImportCandidate, choose, require_off
from b2d.machine_names import command_for
from b2d.machine_store.store import MachineStore
from b2d.models import OFF_STATES, MachineState
from b2d.paths import MachinePaths
from tests.support import raw_disks
from tests.support.cli import B2D, LIMIT_S, Prompt, Result
from tests.support.foreign_machines import (
    a_disk,
    converted,
    create_boot2docker_machine,
    create_docker_machine,
    owner_prompt,
)

HALF = """#!/bin/sh
[ "$1" = convert ] || exec {real} "$@"
for target; do :; done
echo half >"$target"
echo "    (50.00/100%)"
exec sleep 60
"""


@pytest.fixture
def prompt(tmp_path: Path) -> Prompt:
    return owner_prompt(tmp_path)


def assert_imported(prompt: Prompt, result: Result, name: str, disk: Path) -> None:
    """Assert that the machine exists, with the data of that disk in a file of its own."""
    assert (result.code, result.out) == (0, ""), result.err
    assert result.err.splitlines()[-1] == f"{name} is created from {disk}; start it: {command_for('up', name)}"
    copy = prompt.home.machine(name).disk_qcow2
    compared = subprocess.run(["qemu-img", "compare", "-q", str(disk), str(copy)], check=False)
    assert compared.returncode == 0
    assert copy.stat().st_mode & 0o777 == 0o600
    assert prompt.b2d("status", "--vm", name).out == "stopped\n"


def nothing_is_made(prompt: Prompt) -> None:
    machines = prompt.home.machines
    assert not machines.exists() or [path.name for path in machines.iterdir() if path.is_dir()] == []


def info(prompt: Prompt, name: str) -> dict[str, object]:
    document = json.loads(prompt.b2d("info", "--vm", name).out)
    assert isinstance(document, dict)
    return document


@pytest.mark.parametrize("given", ["boot2docker-vm", "{home}/VirtualBox VMs/boot2docker-vm", "{disk}", "{settings}"])
def test_a_boot2docker_machine_is_imported_by_its_name_folder_settings_or_disk(prompt: Prompt, given: str) -> None:
    disk = create_boot2docker_machine(prompt.folder)
    before = raw_disks.sha256_of(disk)
    word = given.format(home=prompt.folder, disk=disk, settings=disk.with_suffix(".vbox"))
    assert_imported(prompt, prompt.b2d("import", word), "boot2docker-vm", disk)
    machine = info(prompt, "boot2docker-vm")
    assert (machine["memory_mib"], machine["cpus"], machine["disk_mib"]) == (1024, 2, 64)
    assert raw_disks.sha256_of(disk) == before


@pytest.mark.parametrize("with_settings", [True, False])
def test_a_docker_machine_machine_is_imported_by_its_name(prompt: Prompt, with_settings: bool) -> None:
    disk = create_docker_machine(prompt.folder, with_settings=with_settings)
    assert_imported(prompt, prompt.b2d("import", "default"), "default", disk)
    machine = info(prompt, "default")
    assert (machine["memory_mib"], machine["cpus"]) == (1024, 2 if with_settings else 1)


def test_the_store_of_docker_machine_may_be_in_another_folder(prompt: Prompt, tmp_path: Path) -> None:
    disk = create_docker_machine(tmp_path / "else")
    result = prompt.b2d("import", "default", MACHINE_STORAGE_PATH=str(tmp_path / "else/.docker/machine"))
    assert_imported(prompt, result, "default", disk)


@pytest.mark.parametrize("ending", ["vmdk", "vdi", "qcow2", "raw", "vhdx"])
def test_a_disk_file_of_any_hypervisor_is_imported(prompt: Prompt, tmp_path: Path, ending: str) -> None:
    disk = a_disk(tmp_path / f"my: disk,{ending}.{ending}")
    before = raw_disks.sha256_of(disk)
    assert_imported(prompt, prompt.b2d("import", str(disk), "--vm", "box"), "box", disk)
    machine = info(prompt, "box")
    assert (machine["memory_mib"], machine["disk_mib"]) == (640, 64)
    assert raw_disks.sha256_of(disk) == before


def test_options_of_the_command_line_override_the_original(prompt: Prompt) -> None:
    create_boot2docker_machine(prompt.folder)
    assert prompt.b2d("import", "boot2docker-vm", "--vm", "box", "--memory", "768", "--cpus=1").code == 0
    machine = info(prompt, "box")
    assert (machine["name"], machine["memory_mib"], machine["cpus"]) == ("box", 768, 1)


def test_an_unformatted_disk_is_imported(prompt: Prompt, tmp_path: Path) -> None:
    disk = converted(raw_disks.create_unformatted(tmp_path / "raw", 32), tmp_path / "new.vmdk")
    assert_imported(prompt, prompt.b2d("import", str(disk)), "new", disk)


def test_importing_twice_changes_nothing_and_a_name_in_use_is_refused(prompt: Prompt, tmp_path: Path) -> None:
    create_boot2docker_machine(prompt.folder)
    assert prompt.b2d("import", "boot2docker-vm").code == 0
    again = prompt.b2d("import", "boot2docker-vm")
    assert (again.code, again.err) == (0, "boot2docker-vm exists already\n")
    assert json.loads(prompt.b2d("import", "boot2docker-vm", "--json").out)["changed"] is False
    other = prompt.b2d("import", str(a_disk(tmp_path / "boot2docker-vm.vdi")))
    assert (other.code, other.out) == (2, "")
    assert other.err == "b2d: there is a machine boot2docker-vm already\n     try: b2d import ... --vm NAME\n"


def test_import_without_arguments_lists_the_candidates(prompt: Prompt) -> None:
    assert prompt.b2d("import").err.startswith("there is no machine of boot2docker or docker-machine")
    assert json.loads(prompt.b2d("import", "--json").out) == []
    first, two = create_boot2docker_machine(prompt.folder), create_docker_machine(prompt.folder)
    create_boot2docker_machine(prompt.folder, "windows", label="WIN_10", saved=True)  # a machine of the user's own
    (prompt.folder / "VirtualBox VMs" / "broken").mkdir()
    (prompt.folder / "VirtualBox VMs" / "broken" / "broken.vbox").write_text("<")
    lines = prompt.b2d("import").out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["NAME", "STATE"],
        ["boot2docker-vm", "stopped"],
        ["default", "stopped"],
    ]
    listed = json.loads(prompt.b2d("import", "--json").out)
    assert listed[0] == {
        "name": "boot2docker-vm",
        "state": "stopped",
        "memory_mib": 1024,
        "cpus": 2,
        "disk": str(first),
        "version": "19.03.12",
    }
    assert listed[1]["disk"] == str(two)
    assert not prompt.home.root.exists()


@pytest.mark.parametrize(
    ("label", "warned"), [("Boot2Docker-v1.8.0", True), ("b2d-v18.06.1-ce", True), ("b2d-v18.09.1", False)]
)
def test_a_machine_with_aufs_data_is_reported(prompt: Prompt, label: str, warned: bool) -> None:
    create_boot2docker_machine(prompt.folder, label=label)
    result = prompt.b2d("import", "boot2docker-vm")
    assert result.code == 0
    assert ("current Docker engines cannot read its AUFS data" in result.err) == warned


@pytest.mark.parametrize(
    ("condition", "code", "message"),
    [
        ("saved", 4, "old is saved, and its memory would be lost"),
        ("layers", 1, "old has snapshots, and only VirtualBox can merge its disk"),
    ],
)
def test_a_machine_that_is_saved_or_has_snapshots_is_refused(
    prompt: Prompt, condition: str, code: int, message: str
) -> None:
    disk = create_boot2docker_machine(prompt.folder, "old", saved=condition == "saved", layers=condition == "layers")
    if condition == "layers":
        (disk.parent / "Snapshots").mkdir()
        child = disk.parent / "Snapshots" / "{00000000-0000-0000-0000-000000000002}.vmdk"
        child.write_bytes(b"")
    result = prompt.b2d("import", "old")
    assert (result.code, result.out) == (code, "")
    assert result.err.splitlines()[0] == f"b2d: {message}"
    assert "try: " in result.err
    nothing_is_made(prompt)


@pytest.mark.parametrize("state", [state for state in MachineState if state not in OFF_STATES])
def test_only_a_machine_that_is_off_is_imported(state: MachineState) -> None:
    with pytest.raises(InvalidStateError) as caught:
        require_off(ImportCandidate("old", Path("old.vmdk"), state=state))
    assert str(state) in caught.value.message
    assert "VBoxManage" in caught.value.hint


def a_layer(folder: Path) -> Path:
    base, child = a_disk(folder / "base.vmdk"), folder / "child.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "vmdk", "-b", str(base), str(child)], check=True)
    return child


def a_foreign_one(folder: Path) -> Path:
    tree = folder / "tree"
    tree.mkdir()
    return raw_disks.create_ext4(folder / "mine.raw", 16, "my-own-data", tree)


def a_cut_off_one(folder: Path) -> Path:
    disk = a_disk(folder / "cut.vmdk")
    os.truncate(disk, 300)
    return disk


def a_text(folder: Path) -> Path:
    (folder / "text").write_text("hello")
    return folder / "text"


def an_empty_folder(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


@pytest.mark.parametrize(
    ("create", "message"),
    [
        (a_layer, "contains only the differences from"),
        (a_foreign_one, "is not a data disk of boot2docker"),
        (a_cut_off_one, ""),
        (a_text, "is not a data disk of boot2docker"),
        (an_empty_folder, "contains no machine's disk"),
    ],
)
def test_a_file_that_is_not_a_data_disk_is_refused_in_one_sentence(
    prompt: Prompt, create: object, message: str
) -> None:
    assert callable(create)
    result = prompt.b2d("import", str(create(prompt.folder)), "--vm", "box")
    assert (result.code, result.out) == (1, "")
    assert message in result.err.splitlines()[0]
    assert "bug" not in result.err
    assert len([line for line in result.err.splitlines() if line.startswith("b2d: ")]) == 1
    nothing_is_made(prompt)


def test_a_missing_machine_gets_a_suggestion(prompt: Prompt) -> None:
    create_docker_machine(prompt.folder)
    result = prompt.b2d("import", "defualt")
    assert (result.code, result.out) == (2, "")
    message = "there is no machine or file 'defualt' to import: did you mean 'default'?"
    assert result.err == f"b2d: {message}\n     try: b2d import\n"


def test_an_invalid_machine_name_is_reported(prompt: Prompt) -> None:
    create_boot2docker_machine(prompt.folder, "my old box")
    result = prompt.b2d("import", "my old box")
    assert (result.code, result.err) == (
        2,
        "b2d: 'my old box' is not a valid machine name\n     try: b2d import ... --vm NAME\n",
    )
    assert prompt.b2d("import", "my old box", "--vm", "box").code == 0


def test_an_ambiguous_name_asks_for_a_file() -> None:
    known = [ImportCandidate("old", Path(f"/{place}/old.vmdk")) for place in "ab"]
    with pytest.raises(Exception, match=r"called old: /a/old\.vmdk, /b/old\.vmdk"):
        choose("old", known)


def test_a_machine_without_its_disk_is_reported(prompt: Prompt) -> None:
    disk = create_boot2docker_machine(prompt.folder)
    disk.unlink()
    result = prompt.b2d("import", "boot2docker-vm")
    assert (result.code, result.err) == (1, f"b2d: the disk of boot2docker-vm is missing: {disk}\n")
    nothing_is_made(prompt)


def start_slow_import(prompt: Prompt, folder: Path, words: Sequence[str]) -> "subprocess.Popen[bytes]":
    """Start an import with a qemu-img that stops halfway through the copy."""
    programs = folder / "slow"
    programs.mkdir()
    (programs / "qemu-img").write_text(HALF.format(real=shutil.which("qemu-img")))
    (programs / "qemu-img").chmod(0o755)
    known = prompt.full_environment(PATH=f"{programs}:{prompt.full_environment()['PATH']}")
    return subprocess.Popen([B2D, "import", *words], env=known, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_cancelled_import_leaves_nothing(prompt: Prompt, tmp_path: Path, number: signal.Signals, code: int) -> None:
    disk = a_disk(tmp_path / "old.vmdk")
    before = raw_disks.sha256_of(disk)
    child = start_slow_import(prompt, tmp_path, [str(disk)])
    unfinished = prompt.home.machine("old").folder / ".disk.qcow2.unfinished"
    end = time.monotonic() + LIMIT_S
    while not unfinished.exists() and time.monotonic() < end:
        time.sleep(0.02)
    child.send_signal(number)
    _, err = child.communicate(timeout=LIMIT_S)
    assert child.returncode == code, err
    nothing_is_made(prompt)
    assert raw_disks.sha256_of(disk) == before


def test_the_import_after_a_killed_one_succeeds(prompt: Prompt, tmp_path: Path) -> None:
    disk = a_disk(tmp_path / "old.vmdk")
    child = start_slow_import(prompt, tmp_path, [str(disk)])
    unfinished = prompt.home.machine("old").folder / ".disk.qcow2.unfinished"
    end = time.monotonic() + LIMIT_S
    while not unfinished.exists() and time.monotonic() < end:
        time.sleep(0.02)
    child.kill()
    child.communicate(timeout=LIMIT_S)
    assert prompt.b2d("status", "--vm", "old").out == "absent\n"
    assert_imported(prompt, prompt.b2d("import", str(disk)), "old", disk)
    assert not unfinished.exists()


def test_a_copied_disk_without_a_machine_is_adopted_without_a_second_copy(prompt: Prompt, tmp_path: Path) -> None:
    disk = a_disk(tmp_path / "old.vmdk")
    assert prompt.b2d("import", str(disk)).code == 0
    paths = prompt.home.machine("old")
    lose_description(paths)  # as after a power cut just before the write
    stamp = paths.disk_qcow2.stat().st_mtime_ns
    assert_imported(prompt, prompt.b2d("import", str(disk)), "old", disk)
    assert paths.disk_qcow2.stat().st_mtime_ns == stamp
    lose_description(paths)
    other = prompt.b2d("import", str(a_disk(tmp_path / "other.vmdk")), "--vm", "old")
    assert other.code == 4
    assert other.err.startswith(f"b2d: there is a data disk already: {paths.disk_qcow2}\n")
    assert paths.disk_qcow2.stat().st_mtime_ns == stamp


def test_a_machine_without_its_description_is_not_replaced(prompt: Prompt, tmp_path: Path) -> None:
    disk = a_disk(tmp_path / "old.vmdk")
    assert prompt.b2d("import", str(disk)).code == 0
    paths = prompt.home.machine("old")
    paths.spec.unlink()
    stamp = paths.disk_qcow2.stat().st_mtime_ns
    other = prompt.b2d("import", str(a_disk(tmp_path / "other.vmdk")), "--vm", "old")
    assert (other.code, paths.disk_qcow2.stat().st_mtime_ns) == (2, stamp)
    assert "b2d: there is a machine old already\n" in other.err
    assert prompt.b2d("status", "--vm", "old").out == "stopped\n"


def lose_description(paths: MachinePaths) -> None:
    for path in (paths.spec, paths.spec_copy):
        path.unlink()


def test_a_home_without_space_is_reported_and_nothing_is_left(prompt: Prompt, tmp_path: Path) -> None:
    disk = a_disk(tmp_path / "old.vmdk")
    assert prompt.b2d("download", prompt.environment["B2D_IMAGE"]).code == 0
    completed = subprocess.run(
        [B2D, "import", str(disk)],
        env=prompt.full_environment(),
        capture_output=True,
        timeout=LIMIT_S,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000)),
        check=False,
    )
    assert (completed.returncode, completed.stdout) == (1, b"")
    assert b"b2d: qemu-img failed" in completed.stderr
    nothing_is_made(prompt)


@pytest.mark.needs("root", "unshare")
def test_a_disk_that_is_too_small_is_reported_with_free_and_required_space_before_the_copy(
    prompt: Prompt, tmp_path: Path
) -> None:
    disk = a_disk(tmp_path / "old.vmdk")
    assert prompt.b2d("download", prompt.environment["B2D_IMAGE"]).code == 0
    machines = prompt.home.machines
    machines.mkdir()
    line = f"mount -t tmpfs -o size=200k small {machines} && b2d import {disk}; ls -A {machines} >&3; exit"
    result = prompt.run(["unshare", "--mount", "sh", "-c", f"exec 3>&1; {line}"])
    assert result.err.startswith(f"b2d: {machines}/old has 0.")
    assert " MiB free, and 1." in result.err
    assert [name for name in result.out.split() if not name.startswith(".")] == []


def test_without_qemu_the_hint_installs_it(prompt: Prompt, tmp_path: Path) -> None:
    result = prompt.b2d("import", str(a_disk(tmp_path / "old.vmdk")), PATH=str(Path(B2D).parent))
    assert (result.code, result.out) == (6, "")
    assert result.err == "b2d: qemu-img is not installed\n     try: b2d doctor --fix\n"
    nothing_is_made(prompt)


def test_init_can_copy_a_disk_as_in_2014(prompt: Prompt, tmp_path: Path) -> None:
    disk = a_disk(tmp_path / "base.vmdk")
    result = prompt.b2d("--basevmdk", str(disk), "init")
    assert (result.code, result.out) == (0, "")
    assert result.err.splitlines()[-1] == "boot2docker-vm is created; start it: b2d up"
    assert info(prompt, "boot2docker-vm")["memory_mib"] == 640
    copy = prompt.home.machine("boot2docker-vm").disk_qcow2
    assert subprocess.run(["qemu-img", "compare", "-q", str(disk), str(copy)], check=False).returncode == 0
    again = prompt.b2d("init", "--basevmdk", str(disk))
    assert (again.code, again.err.splitlines()[0]) == (0, "boot2docker-vm exists already")
    result = prompt.b2d("init", "--vm", "other", "--basevmdk", "/nowhere.vmdk")
    assert (result.code, result.err) == (
        2,
        "b2d: there is no disk /nowhere.vmdk to copy\n     try: --basevmdk FILE\n",
    )
    assert MachineStore(prompt.home).names() == ["boot2docker-vm"]


def test_an_imported_machine_shares_no_folders_unless_requested(prompt: Prompt, tmp_path: Path) -> None:
    (prompt.folder / "src").mkdir()
    first, second = a_disk(tmp_path / "first.vmdk"), a_disk(tmp_path / "second.vmdk")
    completed = prompt.b2d("import", str(first), "--vm", "first")
    note = "first is imported and shares no folders of this host; to share some: b2d set share='~/*' --vm first\n"
    assert note in completed.err
    result = prompt.b2d("import", str(second), "--vm", "second", "--share", "~/src")
    assert "no folders" not in result.err
    specs = [MachineStore(prompt.home).read(name) for name in ("first", "second")]
    assert [(spec.share, spec.folders) for spec in specs if spec] == [
        ((), ()),
        ((f"{prompt.folder}/src",), (f"{prompt.folder}/src",)),
    ]
    assert prompt.b2d("set", "share=~/*", "--vm", "first").code == 0
    spec = MachineStore(prompt.home).read("first")
    assert spec is not None
    assert spec.share == (f"{prompt.folder}/*",)
