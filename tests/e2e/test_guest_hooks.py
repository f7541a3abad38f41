"""The user's files in /var/lib/boot2docker: hooks, profile, CAs, host name; and the effect of mistakes in them."""

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from b2d.guest import tls_certificates
from b2d.host.polling import wait_until
from b2d.models import Image
from tests.e2e.conftest import Person
from tests.support import guest_without_docker, raw_disks, tiny_guest
from tests.support.timing import wall_limit

pytestmark = pytest.mark.qemu

STORE = "/var/lib/boot2docker"
PROFILE = """# as docker-machine wrote it
EXTRA_ARGS='--label from=profile'
DOCKER_HOST='-H tcp://0.0.0.0:2376'
DOCKER_TLS=no
export HTTP_PROXY=http://127.0.0.1:9/
"""
BOOTSYNC = f"echo before $(pidof dockerd || echo nobody) >{STORE}/order\n"
BOOTLOCAL = f"echo after $(docker version --format '{{{{.Server.Os}}}}') >>{STORE}/order 2>&1\n"
GIVE_UP_S = 90.0
KEYS_REPORT = "/etc/b2d/sshd & sleep 1; dropbearkey -y -f /run/b2d/host_key"


@pytest.fixture(scope="module")
def hooked(person: Person, tmp_path_factory: pytest.TempPathFactory) -> Person:
    """Start a machine on a boot2docker disk that has every supported customization."""
    person.check_output("init")
    tls_certificates.ensure_certificates(person.paths, [person.address], datetime.now(UTC))
    folder = tmp_path_factory.mktemp("disk")
    store = folder / f"tree{STORE}"
    files = {
        "bootsync.sh": BOOTSYNC,
        "bootlocal.sh": BOOTLOCAL,
        "profile": PROFILE,
        "certs/company.pem": (person.paths.certs / "ca.pem").read_text(),
        "etc/hostname": "attic\n",
        "etc/docker/daemon.json": '{"debug": true, "registry-mirrors": ["https://own.test"]}\n',
    }
    for name, content in files.items():
        path = store / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (folder / "tree/var/lib/docker/aufs/diff").mkdir(parents=True)
    answer = folder / "tree/var/lib/docker/volumes/old/_data/answer"
    answer.parent.mkdir(parents=True)
    answer.write_text("42\n")
    raw = raw_disks.create_boot2docker_disk(folder / "raw", 600, folder / "tree")
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", str(raw), str(person.paths.disk_qcow2)], check=True)
    settings = {
        "REGISTRY_MIRRORS": "https://host.test",
        "INSECURE_REGISTRIES": "host.test:5000",
        "HTTP_PROXY": "host.test:1",
    }
    person.environment |= {f"B2D_{key}": value for key, value in settings.items()}
    result = person.b2d("up")
    assert result.returncode == 0, result.stderr.decode()
    assert f"{STORE}/etc/docker/daemon.json sets registry-mirrors itself: the host's" in result.stderr.decode()
    return person


def await_hooks(hooked: Person) -> None:
    """Wait for bootlocal.sh and assert that it could reach Docker."""
    wait_until(lambda: "after" in order(hooked), condition="the hooks", timeout_s=60, interval_s=1)
    assert order(hooked) == "before nobody\nafter linux\n"


def order(hooked: Person) -> str:
    return hooked.check_output("ssh", f"cat {STORE}/order")


def test_hooks_run_before_and_after_docker_starts(hooked: Person) -> None:
    await_hooks(hooked)


def test_the_profile_applies_and_cannot_disable_tls(hooked: Person) -> None:
    """docker-machine wrote DOCKER_HOST and DOCKER_TLS; the seed overrides them."""
    assert hooked.docker("info", "--format", "{{.Labels}} {{.HTTPProxy}}") == "[from=profile] http://127.0.0.1:9/\n"
    environment = hooked.check_output("ssh", "sudo cat /proc/$(cat /var/run/docker.pid)/environ")
    assert "HTTP_PROXY=http://127.0.0.1:9/" in environment.split("\0")
    assert hooked.sh('eval "$(b2d shellinit)"; exec curl -ks "https://${DOCKER_HOST#tcp://}/version"').stdout == b""


def test_daemon_json_and_the_hostname_apply(hooked: Person) -> None:
    assert hooked.docker("info", "--format", "{{.Debug}} {{.Name}}") == "true attic\n"


def test_registries_of_the_host_apply_unless_daemon_json_sets_them(hooked: Person) -> None:
    """The profile's proxy wins over the host's, which is set in capitals."""
    registries = json.loads(hooked.docker("info", "--format", "{{json .RegistryConfig}}"))
    assert registries["Mirrors"] == ["https://own.test/"]
    assert "host.test:5000" in registries["IndexConfigs"]


def test_a_ca_stored_there_is_trusted(hooked: Person) -> None:
    """Docker is its own registry. The CA is trusted; the registry then refuses a client without a certificate.

    The guest's firewall blocks Docker's port from within the guest, so it is opened for this test.
    """
    authority = (hooked.paths.certs / "ca.pem").read_text()
    assert authority in hooked.check_output("ssh", "cat /etc/ssl/certs/ca-certificates.crt")
    hooked.check_output("ssh", "sudo iptables -F b2d")
    stderr = hooked.run_docker("pull", "10.0.2.15:2376/anything").stderr
    assert b"certificate required" in stderr


def test_volumes_of_2014_exist(hooked: Person) -> None:
    assert hooked.docker("volume", "ls", "-q") == "old\n"
    assert hooked.check_output("ssh", "sudo cat /var/lib/docker/volumes/old/_data/answer") == "42\n"


def test_a_profile_with_a_syntax_error_is_reported_and_ignored(hooked: Person) -> None:
    hooked.check_output("ssh", f"sudo tee {STORE}/profile", stdin=b'EXTRA_ARGS="--label from=nowhere\n')
    completed = hooked.b2d("restart")
    assert completed.returncode == 0, completed.stderr.decode()
    assert f"{STORE}/profile is ignored: line 2: syntax error" in completed.stderr.decode()
    assert hooked.docker("info", "--format", "{{.Labels}}") == "[]\n"
    assert hooked.check_output("ssh", "sh -lc 'echo in'") == "in\n"
    await_hooks(hooked)  # the log includes Docker's last boot


def test_invalid_dockerd_arguments_fail_quickly_and_can_be_corrected(hooked: Person) -> None:
    hooked.check_output("ssh", f"sudo tee {STORE}/profile", stdin=b"EXTRA_ARGS=--nonsense\n")
    with wall_limit(GIVE_UP_S):
        completed = hooked.b2d("restart", "-v")
    assert completed.returncode == 1
    assert "dockerd exits soon after each start" in completed.stderr.decode()
    assert completed.stderr.decode().count("unknown flag: --nonsense") > 1  # in the message, and in the details
    assert "--nonsense" in hooked.check_output("logs", "--docker")
    hooked.check_output("ssh", f"sudo rm {STORE}/profile")
    wait_until(lambda: hooked.b2d("up").returncode == 0, condition="Docker", timeout_s=60, interval_s=1)


def test_without_a_seed_the_guest_has_a_persistent_host_key(image: Image, tmp_path: Path) -> None:
    disk = raw_disks.create_unformatted(tmp_path / "disk", 200)
    machine = guest_without_docker.Guest(
        guest_without_docker.image(image, tmp_path, KEYS_REPORT), tmp_path, tiny_guest.spec(), [disk]
    )
    first, second = machine.report(), machine.report()
    assert "ssh-ed25519 AAAA" in first
    assert [line for line in first.splitlines() if "ssh-ed25519 AAAA" in line] == [
        line for line in second.splitlines() if "ssh-ed25519 AAAA" in line
    ]
