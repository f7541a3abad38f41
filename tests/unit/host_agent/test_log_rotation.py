"""Logs that a guest fills stay bounded, and the writing program continues."""

import os
from pathlib import Path

import pytest

from b2d.host_agent.log_rotation import rotate, rotate_while


def test_a_large_log_is_emptied_and_its_end_is_saved(tmp_path: Path) -> None:
    log = tmp_path / "serial.log"
    with log.open("ab") as writer:
        writer.write(b"x" * 1000 + b"the end")
        writer.flush()
        assert rotate(log, limit=500, keep=7)
        writer.write(b"and on")
    assert log.read_bytes() == b"and on"
    assert (tmp_path / "serial.log.1").read_bytes() == b"the end"
    assert (tmp_path / "serial.log.1").stat().st_mode & 0o777 == 0o600


def test_small_logs_and_special_files_are_unchanged(tmp_path: Path) -> None:
    log = tmp_path / "serial.log"
    assert not rotate(log)
    log.write_bytes(b"x" * 500)
    assert not rotate(log, limit=500)
    log.unlink()
    os.mkfifo(log)
    assert not rotate(log, limit=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["serial.log"]


def test_a_symlink_in_place_of_the_backup_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / "serial.log").write_bytes(b"x" * 500)
    (tmp_path / "serial.log.1").symlink_to(tmp_path / "theirs")
    assert rotate(tmp_path / "serial.log", limit=100, keep=10)
    assert (tmp_path / "theirs").read_text() == "theirs"


def test_a_log_that_is_a_symlink_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_bytes(b"x" * 500)
    (tmp_path / "serial.log").symlink_to(tmp_path / "theirs")
    with pytest.raises(OSError, match="symbolic link"):
        rotate(tmp_path / "serial.log", limit=100, keep=10)
    assert (tmp_path / "theirs").read_bytes() == b"x" * 500
    assert not (tmp_path / "serial.log.1").exists()


def test_a_log_is_rotated_until_the_machine_has_ended(tmp_path: Path) -> None:
    log = tmp_path / "serial.log"
    log.write_bytes(b"x" * (17 << 20))
    left = [True, True, False]
    rotate_while(lambda: left.pop(0), [tmp_path / "none", log], interval_s=0.01)
    assert (log.stat().st_size, left) == (0, [])
