"""The support archive: complete diagnostics, whatever is broken, and no secrets."""

import base64
import json
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from b2d.guest import tls_certificates
from b2d.guest.ssh import keys
from b2d.machine_store.store import MachineStore
from tests.support.cli import Prompt
from tests.support.fakes import a_spec

COUNT = iter(range(1000, 2000))


class PlantedSecrets:
    """Planted secrets, each unique, so that a test can tell where one leaked."""

    def __init__(self) -> None:
        self.all: dict[str, str] = {}

    def add(self, place: str) -> str:
        self.all[place] = f"S3cr3t{next(COUNT)}Xy"
        return self.all[place]


CAPITALS = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.fixture
def prompt(tmp_path: Path) -> Prompt:
    """Return the prompt of a user with a non-ASCII name, in a home of her own."""
    folder = tmp_path / "home" / "maria-lübeck"
    folder.mkdir(parents=True)
    return Prompt(folder, {"USER": "maria-lübeck", "PATH": "/usr/bin:/bin"})


def unpack(prompt: Prompt, name: str = "out.tgz") -> dict[str, str]:
    """Return the files of the archive."""
    with tarfile.open(prompt.folder / name) as archive:
        files = {}
        for entry in archive:
            content = archive.extractfile(entry)
            assert content is not None
            assert (entry.mode, entry.uname, entry.uid) == (0o600, "", 0)
            files[entry.name.removeprefix("b2d-support/")] = content.read().decode()
    return files


def a_traceback(planted: PlantedSecrets, where: str) -> str:
    """Return a log with a secret in each line."""
    secret = planted.add
    return f"""2026-01-01 b2d up --token {secret(where + " option")} https://u:{secret(where + " address")}@host/x
Traceback (most recent call last):
requests.exceptions.ProxyError: proxy http://me:{secret(where + " proxy")}@proxy:3128 refused
headers {{'Authorization': 'Basic {secret(where + " header")}'}} body {{"password": "{secret(where + " json")}"}}
GET https://bucket/b2d.iso?X-Amz-Signature={secret(where + " signed")}
-----BEGIN RSA PRIVATE KEY-----
{secret(where + " pem")}
-----END RSA PRIVATE KEY-----
somebody in /home/somebody
"""


def plant(prompt: Prompt, planted: PlantedSecrets) -> dict[str, str]:
    """Put secrets wherever b2d reads or writes and return those of the environment."""
    secret, home = planted.add, prompt.home
    MachineStore(home).write(a_spec())
    paths = home.machine("boot2docker-vm")
    paths.disk_qcow2.write_bytes(b"QFI\xfb")
    keys.ensure_client(paths)
    keys.ensure_host(paths)
    tls_certificates.ensure_certificates(paths, ["127.0.59.103"], datetime.now(UTC))
    for key in (paths.ssh_key, paths.host_key, paths.certs / "key.pem", paths.authority / "ca-key.pem"):
        planted.all[key.name] = key.read_text().splitlines()[1]
    paths.seed.write_text(secret("seed"))
    leaked = paths.ssh_key.read_text().splitlines()[2]
    planted.all["a line of a key in a log"] = leaked
    home.config.write_text(
        f'mirror = "http://m:{secret("mirror")}@mirror.example/debian"\n'
        f'image = "https://i:{secret("image")}@host/b2d.iso?sig={secret("query")}"\n'
        f'https_proxy = "me:/@?{secret("proxy in a file")}@proxy.example"\n'
    )
    docker = prompt.folder / ".docker"
    docker.mkdir()
    auth = base64.b64encode(f"me:{secret('registry')}".encode()).decode()
    planted.all["auth"] = auth
    (docker / "config.json").write_text(json.dumps({"auths": {"registry.example": {"auth": auth}}}))
    for log, name in ((home.log, "log"), (home.older_log, "older"), (paths.serial_log, "console")):
        log.write_text(a_traceback(planted, name) + f"{auth} me {planted.all['registry']} {leaked} {prompt.folder}/x\n")
    paths.qemu_log.write_text(a_traceback(planted, "qemu"))
    paths.qemu_record.write_text(json.dumps({"hardware": ["-drive", f"https://u:{secret('drive')}@host/x"]}))
    paths.virtualbox_log.parent.mkdir(parents=True)
    paths.virtualbox_log.write_text(a_traceback(planted, "vbox"))
    return {
        "HTTPS_PROXY": f"http://me:{secret('proxy')}@proxy.example:3128",
        "http_proxy": f"me:{secret('bare proxy')}@proxy.example:3128",
        "B2D_HTTP_PROXY": f"http://me:' {secret('proxy of b2d')}@proxy.example",
        "DOCKER_AUTH_CONFIG": json.dumps({"auths": {"r": {"identitytoken": secret("identity")}}}),
        "DOCKER_HOST": f"tcp://u:{secret('docker host')}@127.0.0.1:2376",
        "B2D_IMAGE": f"https://x:{secret('variable')}@host/b2d.iso",
        "GITHUB_TOKEN": secret("token"),
        "DOCKER_REGISTRY_PASSWORD": secret("password"),
    }


def test_no_secret_or_user_name_is_in_the_archive_or_the_output(prompt: Prompt) -> None:
    planted = PlantedSecrets()
    variables = plant(prompt, planted)
    for options, more in (((), {}), (("--json",), {}), (("-v",), {}), ((), CAPITALS)):
        result = prompt.b2d("support", "out.tgz", *options, **variables, **more)
        assert result.code == 0, result.err
        files = unpack(prompt)
        everything = "\n".join([*files, *files.values(), result.out, result.err])
        assert {place for place, secret in planted.all.items() if secret in everything} == set()
        inside = "\n".join([*files, *files.values()])
        assert "maria" not in inside
        assert "mirror.example/debian" in inside  # text that is no secret is useful
        assert "Traceback" in files["machines/boot2docker-vm/serial.log"]
    assert json.loads(prompt.b2d("doctor", "--json", **variables).out)


def test_the_output_of_doctor_contains_no_secret(prompt: Prompt) -> None:
    planted = PlantedSecrets()
    variables = plant(prompt, planted)
    for options in ((), ("--json",)):
        result = prompt.b2d("doctor", *options, **variables)
        assert {place for place, secret in planted.all.items() if secret in result.out + result.err} == set()


def test_a_key_that_is_cut_by_the_tail_is_redacted_too(prompt: Prompt) -> None:
    prompt.home.root.mkdir()
    lines = "\n".join(f"{number:04}ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefgh" for number in range(40))
    key = f"-----BEGIN RSA PRIVATE KEY-----\n{lines}\n-----END RSA PRIVATE KEY-----\n"
    for missing in (0, 300, 900, 1400, 1900):  # bytes missing of the text behind the key, in its second half
        behind = f"password={'z' * 60_000}\n" + "y," * (((256 << 10) - 60_010 - len(key) + missing) // 2)
        prompt.home.log.write_text("x\n" * 100_000 + key + behind)
        assert prompt.b2d("support", "out.tgz").code == 0
        log = unpack(prompt)["b2d.log"]
        assert "GHIJ" not in log
        assert "y,y" in log and len(log) <= 256 << 10


def test_the_archive_contains_all_diagnostics(prompt: Prompt) -> None:
    plant(prompt, PlantedSecrets())
    result = prompt.b2d("support", "out.tgz")
    files = unpack(prompt)
    machine = "machines/boot2docker-vm"
    assert list(files) == [
        *("versions.txt", "environment.txt", "config.json", "doctor.json", "files.txt", "b2d.log.1", "b2d.log"),
        *(f"{machine}/info.json", f"{machine}/machine.json", f"{machine}/qemu.json", f"{machine}/serial.log"),
        *(f"{machine}/qemu.log", f"{machine}/VBox.log", f"{machine}/docker.log"),
    ]
    assert result.out == f"{prompt.folder / 'out.tgz'}\n"
    assert all(name in result.err for name in files)
    assert json.loads(files["config.json"])["mirror"]["origin"] == "~/.b2d/config.toml"
    assert {"qemu", "machine"} <= {finding["name"] for finding in json.loads(files["doctor.json"])}
    assert json.loads(files[f"{machine}/info.json"])["state"] == "stopped"
    assert "-rw-------" in files["files.txt"] and f"{machine}/id_ed25519" in files["files.txt"]
    assert (prompt.folder / "out.tgz").stat().st_mode & 0o777 == 0o600


def test_without_a_file_name_the_archive_is_in_the_current_folder(prompt: Prompt) -> None:
    result = prompt.b2d("support", "--json")
    document = json.loads(result.out)
    assert Path(document["path"]).parent == prompt.folder
    assert Path(document["path"]).is_file()
    assert list(unpack(prompt, Path(document["path"]).name)) == document["files"]


@pytest.mark.parametrize("home", ["settings", "spec", "file"])
def test_broken_parts_are_reported_inside_the_archive(prompt: Prompt, home: str) -> None:
    MachineStore(prompt.home).write(a_spec())
    prompt.home.config.write_text("memry = 3\n" if home == "settings" else "")
    prompt.home.machine("boot2docker-vm").spec.write_text("{" if home == "spec" else "")
    variables = {"B2D_HOME": str(prompt.home.config)} if home == "file" else {}
    result = prompt.b2d("support", "out.tgz", **variables)
    assert result.code == 0, result.err
    files = unpack(prompt)
    report = {"settings": "config.json", "spec": "machines/boot2docker-vm/info.json", "file": "config.json"}[home]
    wanted = {"settings": "did you mean 'memory'", "spec": "is not JSON", "file": "cannot be read"}[home]
    assert wanted in files[report]


def test_a_path_that_cannot_be_written_is_reported(prompt: Prompt) -> None:
    result = prompt.b2d("support", "nowhere/out.tgz")
    assert (result.code, result.out) == (1, "")
    assert f"{prompt.folder}/nowhere" in result.err
