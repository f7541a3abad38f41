"""The disk commands on a real machine: data survives, and unused space is reclaimed."""

import json
from typing import Any

import psutil
import pytest

from b2d.host.polling import wait_until
from b2d.machine.disk_usage import zero_fill_command
from tests.e2e.conftest import Person

pytestmark = pytest.mark.qemu

MIB = 1 << 20


def volume_content(person: Person) -> str:
    return person.docker("run", "--rm", "-v", "kept:/kept", "hello", "cat", "/kept/file")


def test_restoring_a_snapshot_of_a_running_machine_restores_volumes_and_images(up: Person) -> None:
    up.docker("run", "--rm", "-v", "kept:/kept", "hello", "sh", "-c", "echo then >/kept/file")
    assert up.check_output("snapshot", "create", "then") == ""
    up.docker("run", "--rm", "-v", "kept:/kept", "hello", "sh", "-c", "echo now >/kept/file")
    up.docker("tag", "hello", "later")
    refused = up.b2d("snapshot", "restore", "then", "--yes")
    assert (refused.returncode, refused.stdout) == (4, b"")
    assert b"try: b2d stop" in refused.stderr
    assert volume_content(up) == "now\n"
    up.check_output("save")
    up.check_output("snapshot", "restore", "then", "--yes")
    assert up.b2d("status").stdout == b"stopped\n"
    up.check_output("up")
    assert volume_content(up) == "then\n"
    assert "later" not in up.docker("images", "--format", "{{.Repository}}").split()
    up.check_output("snapshot", "create", "again")
    up.check_output("snapshot", "delete", "then")
    assert [line.split()[0] for line in up.check_output("snapshot", "list").splitlines()] == ["NAME", "again"]
    assert volume_content(up) == "then\n"


def test_deleted_data_is_returned_to_this_host_from_disk_and_memory(up: Person) -> None:
    def shown() -> dict[str, Any]:
        return dict(json.loads(up.check_output("disk", "--json")))

    def resident() -> int:
        """Return the resident memory of QEMU in bytes."""
        return psutil.Process(int(up.paths.qemu_pid.read_text())).memory_info().rss

    first = shown()
    assert first["size"] == 20000 << 20
    assert first["files"]["used"] + first["files"]["free"] < first["files"]["size"] < first["size"]
    fill = "/usr/bin/busybox dd if=/dev/urandom of=/data/x bs=1M count=60 && sync"
    up.docker("run", "--rm", "-v", "data:/data", "hello", "sh", "-c", fill)
    full = shown()
    assert full["room"] - first["room"] > 50 * MIB
    assert full["files"]["used"] - first["files"]["used"] > 50 * MIB
    up.docker("volume", "rm", "data")
    document = json.loads(up.check_output("disk", "compact", "--json"))
    assert document["done"]
    assert full["room"] - document["after"] > 50 * MIB
    idle = resident()
    use = "/usr/bin/busybox dd if=/dev/zero of=/big/x bs=1M count=400 && echo full && exec /usr/bin/busybox sleep 1000"
    up.docker("run", "-d", "--name", "big", "--tmpfs", "/big:size=500m", "hello", "sh", "-c", use)
    wait_until(lambda: "full" in up.docker("logs", "big"), condition="the memory to be used", timeout_s=120)
    most = resident()
    assert most - idle > 200 * MIB
    up.docker("rm", "-f", "big")
    wait_until(lambda: most - resident() > 280 * MIB, condition="the memory to come back", timeout_s=30)


def test_zero_filling_free_space_in_a_virtualbox_guest_leaves_no_file(up: Person) -> None:
    room = "mkdir -p /tmp/small && sudo mount -t tmpfs -o size=64M small /tmp/small"
    left = up.check_output(
        "ssh",
        f"{room} && {zero_fill_command('/tmp/small')} && find /tmp/small -type f && df -kP /tmp/small | tail -n 1",
    )
    assert left.split()[2] == "0"
    up.check_output("ssh", "sudo umount /tmp/small")
