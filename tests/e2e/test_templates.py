"""Machines from one template: each has an identity of its own, and whatever is damaged or killed costs only time."""

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from b2d.drivers.qemu.templates import Templates
from b2d.host.files import hash_of
from b2d.host.polling import wait_until
from tests.e2e.conftest import Person, alone
from tests.e2e.test_signals import start_b2d

pytestmark = pytest.mark.qemu

SECOND, NEW = "second", "new"
IS_DOCKER_OF_THE_TEMPLATE = "[ $(pidof dockerd) = $(cat /run/b2d/held.dockerd) ] && echo yes || echo no"
# what must differ between two machines, each on a line of its own
IDENTITY = """
head -c 16 /dev/urandom | xxd -p
head -c 16 /dev/random | xxd -p
cat /proc/sys/kernel/random/uuid
cat /proc/sys/kernel/random/boot_id
docker info -f '{{.ID}}'
hostname
sudo sha256sum /run/b2d/host_key | cut -c1-64
sudo sha256sum /run/b2d/seed/tls/server-key.pem | cut -c1-64
"""


@pytest.fixture(scope="module")
def owner(person: Person) -> Iterator[Person]:
    """Yield the user with a folder of templates of their own, which is empty at first."""
    person.home.templates.unlink()
    yield person
    person.b2d("delete", "--yes")


def disk_id(person: Person) -> str:
    return person.check_output("ssh", "sudo dd if=/dev/vda1 bs=1 skip=1128 count=16 2>/dev/null | xxd -p")


def states(person: Person) -> list[Path]:
    return sorted(person.home.templates.glob("*.state"))


def steps(person: Person) -> str:
    """Run `up` and return what it reported."""
    completed = person.b2d("up")
    assert completed.returncode == 0, completed.stderr
    return completed.stderr.decode()


def test_the_first_boot_makes_a_template_and_later_starts_use_it(owner: Person) -> None:
    assert "making a template" in steps(owner)
    before = {state: hash_of(state) for state in states(owner)}
    assert len(before) == 2
    assert owner.check_output("ssh", IS_DOCKER_OF_THE_TEMPLATE) == "yes\n"
    owner.check_output("stop")
    text = steps(owner)
    assert "a template" not in text
    assert not re.search(r"^kernel ", text, re.MULTILINE)
    assert {state: hash_of(state) for state in states(owner)} == before


def test_two_machines_of_a_template_have_nothing_in_common(owner: Person) -> None:
    with alone(owner, SECOND) as other:
        other.environment["B2D_RESTRICT"] = "1"
        steps(other)
        assert len(states(owner)) == 2
        wait_until(lambda: disk_id(other) != disk_id(owner), condition="an ID of the disk", timeout_s=30, interval_s=1)
        both = [person.check_output("ssh", IDENTITY).split("\n") for person in (owner, other)]
    pairs = list(zip(*both, strict=True))[:-1]
    assert len(pairs) == 8
    for first, second in pairs:
        assert first, both
        assert first != second, both


@contextmanager
def another_machine(owner: Person, **environment: str) -> Iterator[Person]:
    """Yield the user with another machine, which does not exist yet."""
    other = replace(owner, environment=owner.environment | {"B2D_VM": NEW} | environment)
    try:
        yield other
    finally:
        other.b2d("delete", "--yes")


@contextmanager
def new_machine(owner: Person, **environment: str) -> Iterator[Person]:
    """Yield the user with another machine, which was started for the first time."""
    with another_machine(owner, **environment) as other:
        assert "a template" not in steps(other)
        yield other


def test_a_new_machine_is_used_and_keeps_its_data_and_its_id(owner: Person) -> None:
    with new_machine(owner) as other:
        assert other.check_output("ssh", IS_DOCKER_OF_THE_TEMPLATE) == "yes\n"
        other.create_hello_image()
        assert other.docker("run", "--name", "mine", "hello", "echo", "works") == "works\n"
        before = other.docker("info", "-f", "{{.ID}}")
        assert other.check_output("ssh", "sudo cat /var/lib/docker/engine-id").strip() == before.strip()
        assert "authorized_keys" in other.check_output("ssh", "tar -t -f /var/lib/boot2docker/userdata.tar")
        other.check_output("restart")
        assert other.docker("info", "-f", "{{.ID}}") == before
        assert other.docker("ps", "-a", "--format", "{{.Names}}") == "mine\n"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"B2D_REGISTRY_MIRRORS": "http://10.0.2.2:5999/"}, "[http://10.0.2.2:5999/]"),
        ({"http_proxy": "http://10.0.2.2:3128"}, "[]"),
    ],
)
def test_docker_of_a_new_machine_is_started_again_with_its_settings(
    owner: Person, environment: dict[str, str], expected: str
) -> None:
    with new_machine(owner, **environment) as other:
        assert other.check_output("ssh", IS_DOCKER_OF_THE_TEMPLATE) == "no\n"
        assert other.docker("info", "-f", "{{.RegistryConfig.Mirrors}}") == f"{expected}\n"
        assert other.docker("info", "-f", "{{.HTTPProxy}}").strip() == environment.get("http_proxy", "")


def test_another_size_of_the_disk_needs_a_template_of_its_own(owner: Person) -> None:
    with another_machine(owner, B2D_DISK="9000") as other:
        assert "making a template" in steps(other)
        assert len(states(owner)) == 3
        assert other.check_output("ssh", IS_DOCKER_OF_THE_TEMPLATE) == "yes\n"
        assert int(other.check_output("ssh", "cat /sys/class/block/vda/size")) == 9000 << 11


def test_a_template_with_a_damaged_disk_is_made_again(owner: Person) -> None:
    for disk in owner.home.templates.glob("*.qcow2"):
        disk.write_bytes(b"damaged")
    with another_machine(owner) as other:
        assert "making a template" in steps(other)
        assert other.check_output("ssh", IS_DOCKER_OF_THE_TEMPLATE) == "yes\n"


def test_where_only_one_template_has_room_no_second_one_is_made(owner: Person) -> None:
    for path in owner.home.templates.iterdir():
        path.unlink()
    for expected in (True, False):
        with another_machine(owner, B2D_TEMPLATES="400") as other:
            assert ("making a template" in steps(other)) is expected
            assert len(states(owner)) == 1
            assert other.docker("ps", "-q") == ""


def test_the_guest_has_this_hosts_time(owner: Person) -> None:
    guest = int(owner.check_output("ssh", "date +%s"))
    assert abs(guest - time.time()) < 3


def test_a_reboot_in_the_guest_boots(owner: Person) -> None:
    boot = owner.check_output("ssh", "cat /proc/sys/kernel/random/boot_id")
    owner.b2d("ssh", "sudo reboot")

    def booted() -> bool:
        return owner.b2d("ssh", "cat /proc/sys/kernel/random/boot_id").stdout.decode() not in (boot, "")

    wait_until(booted, condition="the reboot", timeout_s=120, interval_s=1)
    owner.check_output("up")


def test_a_profile_counts_although_docker_waits_in_the_template(owner: Person) -> None:
    profile = b"export EXTRA_ARGS='--label a=profile'\nDOCKER_STORAGE=vfs\n"
    owner.check_output("ssh", "sudo tee /var/lib/boot2docker/profile", stdin=profile)
    owner.check_output("restart")
    assert owner.docker("info", "-f", "{{.Labels}} {{.Driver}}") == "[a=profile] vfs\n"
    owner.check_output("ssh", "sudo rm /var/lib/boot2docker/profile")


def test_a_daemon_json_counts_too_and_is_read_again_on_a_reload(owner: Person) -> None:
    file = "/etc/docker/daemon.json"
    owner.check_output("ssh", f'echo \'{{"labels": ["a=file"]}}\' | sudo tee {file}')
    owner.check_output("restart")
    assert owner.docker("info", "-f", "{{.Labels}} {{.Driver}}") == "[a=file] overlay2\n"
    log = owner.check_output("ssh", "cat /var/lib/boot2docker/log/docker.log")  # on the disk
    assert "API listen on" in log.rpartition("the engine starts")[2]
    owner.check_output("ssh", f'echo \'{{"labels": ["a=new"]}}\' | sudo tee {file}; sudo killall -HUP dockerd')

    def reloaded() -> bool:
        return owner.docker("info", "-f", "{{.Labels}}") == "[a=new]\n"

    wait_until(reloaded, condition="the reload", timeout_s=30, interval_s=0.5)
    owner.check_output("ssh", f"sudo rm {file}")


def test_an_engine_that_ends_is_started_again(owner: Person) -> None:
    owner.check_output("ssh", "sudo killall -KILL dockerd")

    def answers() -> bool:
        return owner.run_docker("version").returncode == 0

    wait_until(answers, condition="dockerd", timeout_s=60, interval_s=0.5)


def test_a_saved_machine_resumes_after_a_start_from_a_template(owner: Person) -> None:
    boot = owner.check_output("ssh", "cat /proc/sys/kernel/random/boot_id")
    owner.check_output("save")
    owner.check_output("up")
    assert owner.check_output("ssh", "cat /proc/sys/kernel/random/boot_id") == boot


def holds(person: Person) -> bool:
    try:
        return bool(json.loads(person.paths.qemu_record.read_text())["holds"])
    except (OSError, ValueError):
        return False


@pytest.mark.parametrize("has_template", [False, True])
def test_up_succeeds_after_b2d_was_killed_with_a_new_machine(owner: Person, has_template: bool) -> None:
    if not has_template:
        for disk in owner.home.templates.glob("*.qcow2"):
            disk.unlink()
    with another_machine(owner) as other:
        process = start_b2d(other, "up")
        wait_until(lambda: holds(other), condition="a guest that holds", timeout_s=60, interval_s=0.001)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert other.paths.template_disk.exists() is not has_template
        other.check_output("up")
        assert (other.paths.template_disk.exists(), len(list(owner.home.templates.glob("*.qcow2")))) == (False, 1)
        assert other.docker("info", "-f", "{{.ID}}") != owner.docker("info", "-f", "{{.ID}}")
        assert "authorized_keys" in other.check_output("ssh", "tar -t -f /var/lib/boot2docker/userdata.tar")


def test_up_succeeds_after_b2d_was_killed_with_a_held_guest(owner: Person) -> None:
    for has_template in (False, True):
        owner.check_output("stop")
        if not has_template:
            for path in owner.home.templates.iterdir():
                path.unlink()
        process = start_b2d(owner, "up")
        wait_until(lambda: holds(owner), condition="a guest that holds", timeout_s=60, interval_s=0.001)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert owner.b2d("status").returncode in (0, 4)
        owner.check_output("up")
        assert owner.docker("ps", "-q") == ""


def test_an_interrupt_while_the_guest_holds_leaves_nothing_that_runs(owner: Person) -> None:
    owner.check_output("stop")
    for path in owner.home.templates.iterdir():
        path.unlink()
    process = start_b2d(owner, "up")
    wait_until(owner.paths.qemu_record.exists, condition="QEMU", timeout_s=60, interval_s=0.01)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert owner.b2d("status").stdout == b"stopped\n"
    assert states(owner) == []
    owner.check_output("up")


def test_a_damaged_template_is_made_again(owner: Person) -> None:
    owner.check_output("stop")
    (state,) = states(owner)
    with state.open("r+b") as file:
        file.seek(1 << 20)
        file.write(b"damaged")
    assert "making a template" in steps(owner)
    assert states(owner) == [state]


def test_a_template_that_cannot_be_loaded_costs_only_time(owner: Person) -> None:
    owner.check_output("stop")
    (state,) = states(owner)
    templates = Templates(owner.home.templates, 2000)
    with templates.add(state.stem, templates.all()[state.stem].image) as draft:
        os.write(draft.state, b"no state of QEMU's" * 1000)
    assert "a template" not in steps(owner)
    assert states(owner) == []
    finding = next(line for line in owner.b2d("doctor").stdout.decode().split("\n") if "templates" in line)
    assert "machines boot without one for a day" in finding
    owner.b2d("doctor", "--fix")
    assert list(owner.home.templates.iterdir()) == []


def test_a_limit_that_is_too_small_for_a_template_is_tried_once(owner: Person) -> None:
    owner.environment["B2D_TEMPLATES"] = "10"
    for expected in (True, False):
        owner.check_output("stop")
        assert ("making a template" in steps(owner)) is expected
        assert states(owner) == []
    assert b"leaves no space" in owner.b2d("doctor").stdout


def test_without_room_for_templates_every_start_is_a_boot(owner: Person) -> None:
    owner.check_output("stop")
    for path in owner.home.templates.iterdir():
        path.unlink()
    owner.environment["B2D_TEMPLATES"] = "0"
    assert re.search(r"^kernel ", steps(owner), re.MULTILINE)
    assert states(owner) == []
