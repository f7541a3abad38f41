"""The guest's network configuration: settings and variables, in files that a shell reads."""

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from b2d.config import loader
from b2d.config.settings import Settings
from b2d.drivers import hypervisors
from b2d.guest import network_config, seed, tls_certificates
from b2d.models import MachineSpec, MachineState
from b2d.paths import Home, MachinePaths
from tests.support.cli import Prompt
from tests.support.fake_machine import Box
from tests.support.fakes import a_spec
from tests.unit.guest.test_seed import files as files_of

SPEC = a_spec(address="127.0.59.7")
PROXIED = Settings(http_proxy="http://me:it's@localhost:3128", no_proxy="corp, 10.0.0.0/8")


@pytest.fixture
def prompt(tmp_path: Path) -> Prompt:
    return Prompt(tmp_path)


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """Create a company's CA, in a file that also has its key."""
    paths = MachinePaths(tmp_path / "company")
    paths.folder.mkdir()
    tls_certificates.ensure_certificates(paths, [], datetime.now(UTC))
    file = tmp_path / "company.pem"
    file.write_bytes((paths.certs / "ca.pem").read_bytes() + (paths.authority / "ca-key.pem").read_bytes())
    return file


def test_without_settings_the_guest_gets_no_files() -> None:
    assert network_config.files(network_config.from_settings(Settings(), SPEC)) == {}
    assert network_config.files(network_config.from_settings(PROXIED._replace(proxies=False), SPEC)) == {}


def test_a_shell_in_the_guest_reads_the_proxies_unchanged() -> None:
    files = network_config.files(network_config.from_settings(PROXIED, SPEC))
    script = files["proxies"].decode() + 'printf "%s\\n" "$http_proxy" "${https_proxy-none}" "$no_proxy"'
    lines = subprocess.run(["sh", "-c", script], env={}, capture_output=True, check=True).stdout.decode().splitlines()
    assert lines[:2] == ["http://me:it%27s@10.0.2.2:3128", "none"]
    assert lines[2].split(",") == [
        "corp",
        "10.0.0.0/8",
        "localhost",
        "127.0.0.1",
        "::1",
        "10.0.2.15",
        "10.0.2.2",
        "127.0.59.7",
    ]
    assert json.loads(files[network_config.RECORD])["http_proxy"] == "http://me:***@10.0.2.2:3128"


def test_the_loopback_of_this_host_is_mentioned_only_if_a_setting_uses_it() -> None:
    assert seed.LOOPBACK in network_config.files(network_config.from_settings(PROXIED, SPEC))
    assert seed.LOOPBACK not in network_config.files(
        network_config.from_settings(PROXIED._replace(http_proxy="proxy:3128"), SPEC)
    )


def test_dockerd_gets_registries_as_its_own_options() -> None:
    settings = Settings(registry_mirrors=("https://one", "http://localhost:5000"), insecure_registries=("two:5000",))
    assert network_config.files(network_config.from_settings(settings, SPEC))["registries"].decode().splitlines() == [
        "registry-mirrors --registry-mirror=https://one",
        "registry-mirrors --registry-mirror=http://10.0.2.2:5000",
        "insecure-registries --insecure-registry=two:5000",
    ]


def test_a_dockerd_that_waits_gets_proxies_and_registries_as_a_file() -> None:
    settings = PROXIED._replace(registry_mirrors=("https://one",), insecure_registries=("two:5000",))
    content = json.loads(network_config.files(network_config.from_settings(settings, SPEC))["daemon.json"])
    assert content["registry-mirrors"] == ["https://one"]
    assert content["insecure-registries"] == ["two:5000"]
    assert content["proxies"]["http-proxy"].endswith("@10.0.2.2:3128")
    assert "127.0.0.1" in content["proxies"]["no-proxy"]
    only_dns = network_config.files(network_config.from_settings(Settings(dns=("192.0.2.7",)), SPEC))
    assert "daemon.json" not in only_dns


def test_the_guest_gets_the_certificates_of_a_ca_file_without_its_key(authority: Path) -> None:
    files = network_config.files(network_config.from_settings(Settings(ca=(str(authority),)), SPEC))
    assert files["authorities"].decode() + certs_key(authority) == authority.read_text()
    assert json.loads(files[network_config.RECORD])["ca"] == [str(authority)]


def certs_key(authority: Path) -> str:
    text = authority.read_text()
    return text[text.index("-----BEGIN PRIVATE") :]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file"),
        (b"\x30\x82", "contains no PEM certificates"),
        (b"", "contains no PEM certificates"),
    ],
)
def test_an_invalid_ca_file_is_reported_before_anything_is_created(
    prompt: Prompt, content: bytes | None, message: str
) -> None:
    file = prompt.folder / "ca.crt"
    if content is not None:
        file.write_bytes(content)
    result = prompt.b2d("up", "--ca", str(file))
    assert result.code == 2
    assert result.err.startswith(f"b2d: ca: {file} {message}")
    assert not prompt.home.machine("boot2docker-vm").folder.exists()
    for verb in ("restart", "reset", "upgrade", "rollback"):
        assert prompt.b2d(verb, "--ca", str(file)).err == result.err


def test_a_ca_file_needs_an_absolute_path(prompt: Prompt) -> None:
    result = prompt.b2d("up", "--ca", "company.pem", "--ca=~/other.pem")
    assert result.err == (
        "b2d: --ca: ca cannot be 'company.pem,~/other.pem'\n"
        "     try: use absolute paths of files, such as /etc/ssl/company.pem\n"
    )
    assert result.code == 2


def test_settings_of_b2d_override_variables_of_this_host(tmp_path: Path) -> None:
    home = Home(tmp_path)
    environ = {"HTTPS_PROXY": "http://host:1", "NO_PROXY": "corp"}
    resolved = loader.load(home, environ, {})
    assert (resolved.settings.https_proxy, resolved.origins["https_proxy"]) == ("http://host:1", "HTTPS_PROXY")
    assert resolved.settings.no_proxy == "corp"
    home.config.write_text('https_proxy = "http://file:1"\n')
    assert loader.load(home, environ, {}).settings.https_proxy == "http://file:1"
    assert loader.load(home, environ | {"B2D_HTTPS_PROXY": "http://b2d:1"}, {}).settings.https_proxy == "http://b2d:1"


def test_an_invalid_proxy_is_refused_without_showing_its_password(prompt: Prompt) -> None:
    result = prompt.b2d("config", "set", "http_proxy=ftp://me:geheim@proxy")
    assert result.code == 2
    assert result.err == (
        "b2d: http_proxy cannot be 'ftp://me:***@proxy'\n     try: use an address such as http://user:password@proxy:3128\n"
    )
    result = prompt.b2d("config", "https_proxy", B2D_HTTPS_PROXY="http://me:geheim@proxy:3128")
    assert (result.code, result.out) == (0, "http://me:***@proxy:3128\n")


def remarks(resolved: loader.ResolvedSettings, spec: MachineSpec) -> list[str]:
    hypervisor = hypervisors.get(spec.driver)
    network = {"reaches_loopback_dns": hypervisor.reaches_loopback_dns, "can_restrict": hypervisor.can_restrict}
    return list(network_config.remarks(resolved.settings, resolved.origins, spec, **network))


def test_settings_without_effect_in_the_guest_are_reported(tmp_path: Path) -> None:
    resolved = loader.load(Home(tmp_path), {"http_proxy": "ftp://me:geheim@x", "https_proxy": "127.0.0.9:1"}, {})
    assert remarks(resolved, SPEC) == [
        "http_proxy: the guest cannot use this proxy: ftp://me:***@x",
        "the guest cannot reach http://127.0.0.9:1: of this host's own addresses it reaches only 127.0.0.1",
    ]
    resolved = loader.load(Home(tmp_path), {"http_proxy": "proxy:1"}, {"dns": ("1.1.1.1",)})
    assert remarks(resolved, SPEC._replace(restrict=True)) == [
        f"{SPEC.name} is restricted and has no network, so these settings have no effect: dns"
    ]
    resolved = loader.load(Home(tmp_path), {}, {"dns": ("1.1.1.1", "127.0.0.1")})
    assert remarks(resolved, SPEC) == []
    assert remarks(resolved, SPEC._replace(driver="virtualbox")) == [
        "dns: a VirtualBox guest cannot reach a name server on 127.0.0.1; without dns it uses this host's"
    ]


def remarked(box: Box) -> bool:
    """Return True when a note said that a saved machine keeps its old configuration."""
    return any(
        "saved with; to apply the current ones: b2d restart --vm box" in text for _, text in box.reporter.messages
    )


def test_a_machine_gets_the_configuration_at_each_boot_and_not_when_it_resumes(box: Box) -> None:
    box.network = {"dns": b"1"}
    machine = box.in_state(MachineState.STOPPED)
    machine.up()
    assert files_of(box.paths.seed.read_bytes())["network/dns"] == b"1"
    machine.save()
    machine.up()
    assert not remarked(box)
    machine.save()
    box.network = {"dns": b"2"}
    machine.up()
    assert remarked(box)
    assert files_of(box.paths.seed.read_bytes())["network/dns"] == b"1"
    box.network = {}
    machine.restart()
    assert [name for name in files_of(box.paths.seed.read_bytes()) if name.startswith("network")] == []
