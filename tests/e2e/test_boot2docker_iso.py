"""A machine with boot2docker's own ISO, whose guest reads no seed disk, under QEMU: the stand-in or the real one."""

import json
import subprocess
import tarfile
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from b2d.host.polling import wait_until
from b2d.machine_store.store import MachineStore
from b2d.models import Image
from b2d.paths import Home
from tests.e2e.conftest import NAME, Person
from tests.e2e.web import fetch, server_command
from tests.support.http_server import serving
from tests.support.requirements import require

pytestmark = [pytest.mark.qemu, pytest.mark.needs("network")]
DISK_MIB = 4000
SHARED = "my project"  # a folder in the home, shared by default
LABEL = b"b2d-v19.03.12"  # an upgrade checks that the engine has this version, and the stand-in's has another
REGISTRY = "registry.corp.test:5001"


@pytest.fixture(scope="module")
def old(person: Person, boot2docker_iso: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    """Yield a user who downloaded that ISO from a releases API, and whose machine of it is up."""
    (person.folder / SHARED).mkdir()
    with serving(tmp_path_factory.mktemp("releases"), tls=True) as web:
        url = web.put("/releases/download/v19.03.12/boot2docker.iso", boot2docker_iso.read_bytes())
        assets = [{"name": "boot2docker.iso", "browser_download_url": url}]
        release = {"tag_name": "v19.03.12", "prerelease": False, "draft": False, "assets": assets, "body": ""}
        api = web.put("/repos/boot2docker/boot2docker/releases", json.dumps([release]).encode())
        trusted = {"SSL_CERT_FILE": str(web.authority)}
        environment = person.environment | trusted | {"B2D_IMAGE": api, "B2D_DISK": str(DISK_MIB)}
        someone = replace(person, environment=environment)
        someone.home.config.write_text(f'ca = ["{web.authority}"]\ninsecure_registries = ["{REGISTRY}"]\n')
        someone.check_output("download")
        someone.check_output("init")
        someone.check_output("up")
        yield someone


@pytest.fixture
def folder(old: Person, pytestconfig: pytest.Config) -> Path:
    """Return a folder of this host that the guest has too, by 9p, which the real one's kernel lacks."""
    if pytestconfig.getoption("--real-boot2docker"):
        require("boot2docker with 9p")
    return old.folder / SHARED


def docker_starts(old: Person) -> int:
    """Return how often its Docker has started."""
    return int(old.check_output("ssh", "sudo grep -c 'msg=\"Starting up\"' /var/lib/boot2docker/log/docker.log"))


def test_it_is_boot2docker_and_docker_answers(old: Person) -> None:
    assert "Boot2Docker 19.03.12" in old.check_output("ssh", "cat /etc/os-release")
    assert old.docker("version", "--format", "{{.Server.APIVersion}}") in ("1.40\n", "1.41\n")
    assert old.check_output("status") == "running\n"


def test_its_docker_uses_the_machine_s_certificates_and_keeps_its_profile(old: Person) -> None:
    profile = old.check_output("ssh", "sudo cat /var/lib/boot2docker/profile")
    assert "CACERT=/var/lib/boot2docker/tls/b2d-ca.pem" in profile
    assert old.check_output("ssh", "sudo stat -c %a /var/lib/boot2docker/tls/b2d-server-key.pem") == "600\n"


def test_a_container_runs_and_its_port_is_open_on_this_host(old: Person) -> None:
    old.create_hello_image()
    old.docker("run", "-d", "--name", "web", "-p", "20280:80", "hello", *server_command("hey"))
    wait_until(lambda: fetch("127.0.0.1", 20280) == "hey", condition="the port", timeout_s=60)
    old.docker("rm", "-f", "web")


def test_the_network_settings_of_this_host_reach_it(old: Person) -> None:
    (authority,) = tomllib.loads(old.home.config.read_text())["ca"]
    assert Path(authority).read_text() in old.check_output("ssh", "cat /etc/ssl/certs/ca-certificates.crt")
    assert REGISTRY in old.docker("info", "--format", "{{json .RegistryConfig.IndexConfigs}}")


def test_the_docker_log_is_found(old: Person, tmp_path: Path) -> None:
    assert "API listen on [::]:2376" in old.check_output("logs", "--docker")
    old.check_output("support", str(tmp_path / "support.tar.gz"))
    with tarfile.open(tmp_path / "support.tar.gz") as archive:
        log = archive.extractfile(f"b2d-support/machines/{NAME}/docker.log")
        assert log is not None and b"API listen on [::]:2376" in log.read()


def test_files_are_copied_each_way_without_an_sftp_server(old: Person) -> None:
    (old.folder / "here").write_bytes(bytes(range(256)) * 100)
    old.check_output("cp", str(old.folder / "here"), ":/tmp/there")
    old.check_output("cp", ":/tmp/there", str(old.folder / "back"))
    assert (old.folder / "back").read_bytes() == (old.folder / "here").read_bytes()


def test_ssh_exits_with_the_code_of_its_command(old: Person) -> None:
    assert old.b2d("ssh", "exit 7").returncode == 7


def test_a_folder_of_this_host_is_in_the_guest_and_in_containers(old: Person, folder: Path) -> None:
    (folder / "word").write_text("ours\n")
    assert old.check_output("ssh", f"cat '{folder}/word'") == "ours\n"
    assert old.docker("run", "--rm", "-v", f"{folder}:/here", "hello", "cat", "/here/word") == "ours\n"


def test_a_save_is_refused_while_a_folder_is_in_use(old: Person, folder: Path) -> None:
    old.docker("run", "-d", "--name", "holder", "-v", f"{folder}:/here", "hello", "sleep", "600")
    completed = old.b2d("save")
    assert (completed.returncode, b"use folders of this host" in completed.stderr) == (4, True)
    old.docker("rm", "-f", "holder")
    assert old.check_output("ssh", f"cat '{folder}/word'") == "ours\n"


def test_a_saved_machine_resumes(old: Person) -> None:
    old.check_output("ssh", "echo here >/tmp/kept")
    old.check_output("save")
    old.check_output("up")
    assert old.check_output("ssh", "cat /tmp/kept") == "here\n"


def test_a_resumed_machine_has_its_folder(old: Person, folder: Path) -> None:
    assert old.check_output("ssh", f"cat '{folder}/word'") == "ours\n"


def test_b2d_s_own_image_and_back_from_a_snapshot_on_a_larger_disk(
    old: Person, image_home: Home, image: Image, boot2docker_iso: Path, tmp_path: Path
) -> None:
    engine = b"b2d-v" + old.docker("version", "--format", "{{.Server.Version}}").encode()
    pinned, starts = old.paths.pinned_host_key.read_bytes(), docker_starts(old)
    old.docker("volume", "create", "kept")
    old.docker("run", "--rm", "-v", "kept:/kept", "hello", "sh", "-c", "echo 42 >/kept/answer")
    answer = ("run", "--rm", "-v", "kept:/kept", "hello", "cat", "/kept/answer")
    old.check_output("snapshot", "create", "before")
    own = image_home.image(image.sha256).iso
    completed = old.b2d("upgrade", "--image", str(own))
    assert (completed.returncode, b"was 19.03.12" in completed.stderr) == (0, True), completed.stderr
    assert b"power was cut" not in completed.stderr
    assert old.docker(*answer) == "42\n"
    old.docker("volume", "rm", "kept")
    old.check_output("stop")
    old.check_output("snapshot", "restore", "before", "--yes")
    old.check_output("set", f"disk={2 * DISK_MIB}")
    relabelled = tmp_path / "boot2docker.iso"
    relabelled.write_bytes(boot2docker_iso.read_bytes().replace(LABEL, engine[: len(LABEL)]))
    completed = old.b2d("upgrade", "--image", str(relabelled))
    assert (completed.returncode, b"was enlarged with its disk" in completed.stderr) == (0, True), completed.stderr
    old.check_output("up")
    assert "Boot2Docker" in old.check_output("ssh", "cat /etc/os-release")
    assert int(old.check_output("ssh", "sudo df -Pm /var/lib/docker/. | awk 'NR == 2 { print $2 }'")) > 1.5 * DISK_MIB
    assert old.docker(*answer) == "42\n"
    assert old.paths.pinned_host_key.read_bytes() == pinned
    assert docker_starts(old) == starts + 2  # to check the image, and by `up`; it has its certificates already


def test_another_guest_at_the_port_is_not_trusted(old: Person) -> None:
    """Here the recorded key is another's, which is as fast to try as it is the same."""
    recorded = old.paths.pinned_host_key.read_bytes()
    old.paths.pinned_host_key.write_bytes(old.paths.ssh_public_key.read_bytes())
    completed = old.b2d("ssh", "true")
    assert (completed.returncode, b"host key differs" in completed.stderr) == (255, True)
    old.paths.pinned_host_key.write_bytes(recorded)
    assert old.check_output("ssh", "echo there") == "there\n"


def test_a_client_logs_in_with_the_password_of_2014(old: Person) -> None:
    """OpenSSH's own, as people did: the machine's own port of 2014, which b2d's agent serves."""
    options = "-F none -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o PubkeyAuthentication=no"
    spec = MachineStore(old.home).read(NAME)
    assert spec is not None
    ask = old.folder / "ask"
    ask.write_text("#!/bin/sh\necho tcuser\n")
    ask.chmod(0o700)
    script = (
        f"SSH_ASKPASS='{ask}' SSH_ASKPASS_REQUIRE=force ssh {options} -p {spec.ssh_port} docker@{spec.address} id -un"
    )
    completed = old.sh(script)
    assert completed.stdout == b"docker\n", completed.stderr


def test_a_copy_of_its_disk_is_imported_and_boots_without_tls(old: Person) -> None:
    old.check_output("stop")
    copy = old.folder / "boot2docker-vm.vmdk"
    convert = ["qemu-img", "convert", "-O", "vmdk", str(old.paths.disk_qcow2), str(copy)]
    subprocess.run(convert, check=True)
    old.check_output("import", str(copy), "--vm", "copied", "--no-tls")
    old.check_output("up", "--vm", "copied")
    assert "Boot2Docker" in old.check_output("ssh", "--vm", "copied", "cat /etc/os-release")
    spec = MachineStore(old.home).read("copied")
    assert spec is not None
    images = f"DOCKER_HOST=tcp://{spec.address}:{spec.docker_port} docker images --format '{{{{.Repository}}}}'"
    assert old.sh(images).stdout == b"hello\n"
    old.check_output("delete", "--yes", "--vm", "copied")


def test_delete_leaves_nothing(old: Person) -> None:
    old.check_output("delete", "--yes")
    assert not old.paths.folder.exists()
