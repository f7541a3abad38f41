"""A machine in an office network: a proxy with a password, a private CA, registries and a name server.

Nothing leaves this host's loopback: only the proxy knows the registries' names.
"""

import json
import shlex
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import pytest

from b2d.guest import tls_certificates
from b2d.host.polling import wait_until
from b2d.network.endpoints import GATEWAY
from b2d.paths import MachinePaths
from tests.e2e.conftest import NAME, Person, alone
from tests.e2e.office import ANSWER, PLAIN, PROXY_PORT, TLS, USER
from tests.support import docker_registry

pytestmark = pytest.mark.qemu

PASSWORD = "s%c@:?r/t'"
QUOTED = quote(PASSWORD, safe="")


@dataclass
class Office:
    """A user in the office, and the proxy's log."""

    person: Person
    authority: Path
    log: Path  # the proxy's log

    def requests(self) -> list[str]:
        """Return the requests to the proxy with their status."""
        return self.log.read_text().splitlines()[1:]

    def home(self) -> Person:
        """Return the same user outside the office."""
        environment = {key: value for key, value in self.person.environment.items() if key != "http_proxy"}
        return replace(self.person, environment=environment)


@pytest.fixture(scope="module")
def office(person: Person, registry: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    """Start the office network and a machine in it."""
    folder = tmp_path_factory.mktemp("office")
    paths = MachinePaths(folder / "registry")
    paths.folder.mkdir()
    tls_certificates.ensure_certificates(paths, [TLS.partition(":")[0]], datetime.now(UTC))
    server = paths.authority / "server.pem"
    tls = f"  tls: {{certificate: {server}, key: {paths.authority / 'server-key.pem'}}}\n"
    with ExitStack() as stack:
        someone = stack.enter_context(alone(person, NAME))
        log = folder / "proxy.log"
        commands = {log: [sys.executable, "-m", "tests.e2e.office", PASSWORD]}
        for name, more in ((TLS, tls), (PLAIN, "")):
            port = name.partition(":")[2]
            commands[folder / f"{port}.log"] = [
                registry,
                "serve",
                str(docker_registry.write_config(folder, port, more)),
            ]
        for output, command in commands.items():
            with output.open("w") as file:
                process = subprocess.Popen([*someone.within, *command], stdout=file, stderr=subprocess.STDOUT)
            stack.callback(process.wait)
            stack.callback(process.kill)
        wait_until(lambda: log.read_text() == "ready\n", condition="the proxy", timeout_s=20)
        authority = paths.certs / "ca.pem"
        someone.home.config.write_text(
            f'https_proxy = "{USER}:{PASSWORD}@localhost:{PROXY_PORT}/"\n'
            f'no_proxy = "intranet.corp.test"\nca = ["{authority}"]\ndns = ["127.0.0.1"]\n'
            f'registry_mirrors = ["https://{TLS}"]\ninsecure_registries = ["{PLAIN}"]\n'
        )
        someone.environment["http_proxy"] = f"http://{USER}:{QUOTED}@127.0.0.1:{PROXY_PORT}"
        someone.check_output("up")
        someone.create_hello_image()
        yield Office(someone, authority, log)


def test_an_image_is_pushed_and_pulled_through_the_proxy_and_from_the_mirror(office: Office) -> None:
    person = office.person
    plain, secured = f"{PLAIN}/library/hello", f"{TLS}/library/hello"
    person.docker("tag", "hello", secured)
    person.docker("push", secured)
    assert f"CONNECT {TLS} 200" in office.requests()
    for name, request in (
        (plain, f"GET {PLAIN} 200"),
        (secured, f"CONNECT {TLS} 200"),
        ("hello", f"CONNECT {TLS} 200"),
    ):
        person.run_docker("rmi", "hello", plain, secured)
        before = len(office.requests())
        person.docker("pull", name)  # without TLS; by its full name; as Docker Hub's, from the mirror
        assert person.docker("run", "--rm", name, "echo", "hi") == "hi\n"
        assert request in office.requests()[before:]
    assert {line.split()[2] for line in office.requests() if "corp.test" in line} == {"200"}


def test_the_guest_has_all_network_settings(office: Office) -> None:
    person = office.person
    assert office.authority.read_text() in person.check_output("ssh", "cat /etc/ssl/certs/ca-certificates.crt")
    assert person.check_output("ssh", "cat /etc/resolv.conf").startswith(f"nameserver {GATEWAY}\n")
    assert f"Address: {ANSWER}\n" in person.check_output("ssh", "nslookup anything.corp.test")
    proxy = f"http://{USER}:{QUOTED}@{GATEWAY}:{PROXY_PORT}"
    for shell in ("", "sh -lc ", "sudo "):  # commands, logins, root
        inner = shlex.quote("env") if shell.startswith("sh") else "env"
        stdout = dict(line.partition("=")[::2] for line in person.check_output("ssh", shell + inner).splitlines())
        assert (stdout["http_proxy"], stdout["https_proxy"]) == (proxy, proxy)
        assert {"intranet.corp.test", GATEWAY, "10.0.2.15", person.address} < {*stdout["no_proxy"].split(",")}
    assert person.check_output("ssh", f"wget -qO- http://{PLAIN}/v2/") == "{}"


def test_info_shows_the_network_settings_without_passwords(office: Office, tmp_path: Path) -> None:
    person = office.person
    info = person.check_output("info")
    network = json.loads(info)["network"]
    assert network == json.loads(info)["has"]["network"]
    assert network["http_proxy"] == f"http://{USER}:***@{GATEWAY}:{PROXY_PORT}"
    assert (network["registry_mirrors"], network["dns"]) == ([f"https://{TLS}"], [GATEWAY])
    person.check_output("support", str(tmp_path / "support.tar.gz"))
    with tarfile.open(tmp_path / "support.tar.gz") as archive:
        gathered = [file.read().decode() for member in archive if (file := archive.extractfile(member))]
    outputs = [person.check_output(*words.split()) for words in ("config", "config --json", "logs", "logs --docker")]
    for text in (info, *outputs, *gathered):
        assert PASSWORD not in text
        assert json.dumps(PASSWORD)[1:-1] not in text
        assert QUOTED not in text
    for path in (person.paths.seed, person.paths.folder):
        assert path.stat().st_mode & 0o077 == 0
    assert person.check_output("ssh", "stat -c '%a %U' /run/b2d/proxies") == "600 docker\n"


def test_a_saved_machine_keeps_its_network_settings_until_its_next_boot(office: Office) -> None:
    home = office.home()
    home.check_output("save")
    home.home.config.unlink()
    stderr = home.b2d("up").stderr.decode()
    assert "keeps the network settings that it was saved with; to apply the current ones: b2d restart" in stderr
    shows = ("info", "--format", "{{.HTTPProxy}} {{.RegistryConfig.Mirrors}}")
    assert f"{GATEWAY}:{PROXY_PORT} [https://{TLS}/]\n" in home.docker(*shows)
    stderr = json.loads(home.check_output("info"))
    assert stderr["network"]["http_proxy"] == "" != stderr["has"]["network"]["http_proxy"]
    home.check_output("restart")
    assert home.docker(*shows) == " []\n"
    assert json.loads(home.check_output("info"))["has"]["network"] is None
    assert office.authority.read_text() not in home.check_output("ssh", "cat /etc/ssl/certs/ca-certificates.crt")
    assert GATEWAY not in home.check_output("ssh", "cat /etc/resolv.conf")
    assert "proxy" not in home.check_output("ssh", "env")
