"""The tutorial of 2014, in its own words, on a real VirtualBox with boot2docker's ISO: the stand-in or the real one.

Not collected by a plain `pytest`: an emulated CPU takes an hour. docs/virtualbox.md has the command line.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from b2d.machine_store.store import MachineStore
from b2d.paths import Home
from tests.e2e.conftest import B2D, NAME, Person
from tests.support.http_server import serving
from tests.support.virtualbox_case import PROGRAMS, vboxmanage

pytestmark = [pytest.mark.virtualbox, pytest.mark.timeout(10000)]
LIMIT_S = 5000
PASSWORD = "-o PubkeyAuthentication=no -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"


@pytest.fixture
def reader(boot2docker_iso: Path, tmp_path: Path) -> Iterator[Person]:
    """Yield somebody who reads the tutorial, with a profile that names a server of releases."""
    with serving(tmp_path / "releases", tls=True) as web, pytest.MonkeyPatch.context() as patches:
        url = web.put("/releases/download/v19.03.12/boot2docker.iso", boot2docker_iso.read_bytes())
        assets = [{"name": "boot2docker.iso", "browser_download_url": url}]
        release = {"tag_name": "v19.03.12", "prerelease": False, "draft": False, "assets": assets, "body": ""}
        api = web.put("/repos/boot2docker/boot2docker/releases", json.dumps([release]).encode())
        folder = tmp_path / "home"
        (folder / ".boot2docker").mkdir(parents=True)
        (folder / ".boot2docker/profile").write_text(f'ISOURL = "{api}"\nDiskSize = 2000\nMemory = 1024\nCPUs = 1\n')
        virtualbox = {"VBOX_USER_HOME": str(folder / "virtualbox"), "VBOX_IPC_SOCKETID": "b2d-tutorial"}
        for name, value in virtualbox.items():
            patches.setenv(name, value)
        environment = {
            "HOME": str(folder),
            "PATH": os.pathsep.join([str(B2D.parent), PROGRAMS, os.environ["PATH"]]),
            "SSL_CERT_FILE": str(web.authority),
            "B2D_DRIVER": "virtualbox",
            "B2D_WAIT": str(LIMIT_S),
            "LANG": "C.UTF-8",
            **virtualbox,
        }
        someone = Person(Home(folder / ".b2d"), folder, environment)
        yield someone
        someone.b2d("delete", "--yes")


def output(reader: Person, script: str) -> str:
    """Run a line of the tutorial in bash, and return its stdout."""
    completed = reader.sh(script, "bash", LIMIT_S)
    assert completed.returncode == 0, f"{script}: {completed.stderr.decode()}"
    return completed.stdout.decode()


def test_the_tutorial_of_2014(reader: Person, tmp_path: Path) -> None:
    output(reader, "boot2docker --no-tls init")
    output(reader, "boot2docker start")
    assert f'"{NAME}"' in vboxmanage("list", "runningvms")
    image = "boot2docker ssh tar -cC / usr/bin/busybox"
    output(
        reader, f"$(boot2docker shellinit) && {image} | docker import -c 'ENTRYPOINT [\"/usr/bin/busybox\"]' - hello"
    )
    run = "docker run --rm hello echo hello from a container"
    assert output(reader, f"$(boot2docker shellinit) && {run}") == "hello from a container\n"
    output(reader, "boot2docker stop")
    assert vboxmanage("list", "runningvms") == ""
    output(reader, "boot2docker download")
    output(reader, "boot2docker start")
    assert "Boot2Docker" in output(reader, "boot2docker ssh cat /etc/os-release")
    completed = reader.sh("boot2docker ip", "bash", LIMIT_S)
    spec = MachineStore(reader.home).read(NAME)
    assert spec is not None
    assert completed.stdout.decode() == f"{spec.address}\n"
    (tmp_path / "ask").write_text("#!/bin/sh\necho tcuser\n")
    (tmp_path / "ask").chmod(0o700)
    ask = f"SSH_ASKPASS={tmp_path}/ask SSH_ASKPASS_REQUIRE=force"
    assert output(reader, f"{ask} ssh -F none {PASSWORD} -p {spec.ssh_port} docker@{spec.address} id -un") == "docker\n"
    profile = f"export DOCKER_HOST=tcp://{spec.address}:{spec.docker_port}"
    assert "hello" in output(reader, f"{profile}; docker images --format '{{{{.Repository}}}}'")
