"""Damaged or hostile files of b2d itself: each counts as absent, or as broken with one error message."""

import gzip
import io
import lzma
import os
import re
import ssl
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import paramiko
import pytest
from hypothesis import strategies as st
from pysequoia import SignatureMode, Tsk, sign

from b2d import __main__ as fast
from b2d.config import loader, toml_edit
from b2d.docker.context import DockerContext
from b2d.drivers.qemu import process as qemu_process
from b2d.drivers.qemu import shared_folders
from b2d.drivers.qemu.process import QemuProcess
from b2d.drivers.qemu.saved_state import SavedState
from b2d.drivers.virtualbox import machine_state, port_forwards
from b2d.errors import B2dError, ConfigError, ImageError
from b2d.formats import suites
from b2d.formats.squashfs import write_uncompressed
from b2d.formats.squashfs_tables import SquashfsError
from b2d.guest import network_config, seed, tls_certificates
from b2d.guest.ssh import connection, keys
from b2d.host.autostart import templates
from b2d.host.process_identity import PID_LIMIT, is_alive
from b2d.host_agent import control, report
from b2d.image import image_store
from b2d.image.build import freshness, manifest, signature, squashfs
from b2d.image.build.freshness import Freshness
from b2d.image.build.fs_tree import Tree, file, link
from b2d.image.build.fs_tree import folder as a_folder
from b2d.importing import candidates
from b2d.machine_store import spec_json
from b2d.machine_store.running_facts import RunningFacts
from b2d.machine_store.store import MachineStore
from b2d.models import Access, DockerEnv, MachineSpec, ProcessIdentity
from b2d.paths import Home, MachinePaths
from b2d.shell import variables
from tests.security.fuzzing import SHARE_S, bent, damaged, dumped, fuzz
from tests.support import foreign_machines, ssh_server
from tests.support.fakes import FakeReporter, a_spec
from tests.support.kernel_images import a_b2d_iso

pytestmark = pytest.mark.timeout(SHARE_S * 2 + 240)

NAME = "boot2docker-vm"


def check_spec(spec: MachineSpec) -> None:
    """Assert that a spec that is accepted can be used: no path escapes and no number is out of range."""
    assert 0 < spec.ssh_port < 65536 and 0 < spec.docker_port < 65536 and 0 <= spec.engine_port < 65536
    assert 0 < spec.memory_mib <= 1 << 22 and 0 <= spec.disk_mib <= 1 << 31
    assert re.fullmatch("[0-9a-f]{64}|", spec.image) and re.fullmatch(r"127\.[\d.]+|", spec.address)
    for text in (spec.source, spec.driver, *spec.folders, *spec.share):
        os.fsencode(text)
        assert "\0" not in text
    with suppress(B2dError):
        shared_folders.find_missing(spec.folders, lambda _: "")
        shared_folders.resolve_paths(spec)


def test_a_machine_json(tmp_path: Path) -> None:
    spec = a_spec(NAME)._asdict() | {
        "schema": 1,
        "image": "a" * 64,
        "folders": ["/data", "/src:ro"],
        "share": ["~/*"],
        "previous": "b" * 64,
    }

    def check(content: bytes) -> None:
        with suppress(B2dError):
            check_spec(spec_json.parse(tmp_path / "machine.json", NAME, content))

    paths = ["/a\0b", "/\ud800"]
    fuzz(bent(spec), check, [dumped({**spec, "folders": [path]}) for path in paths])


def test_an_env_file(tmp_path: Path) -> None:
    store = MachineStore(Home(tmp_path))
    folder = store.home.machine(NAME).folder
    folder.mkdir(parents=True)
    process = ProcessIdentity(os.getpid(), "12345", "x-y")
    facts = RunningFacts("127.0.59.103", 2022, 2376, DockerEnv("tcp://127.0.59.103:2376", "/x"), process, 2377)
    store.write_env(NAME, facts)
    path = store.home.machine(NAME).env
    sample = path.read_bytes()

    def check(content: bytes) -> None:
        path.write_bytes(content)
        quick_facts = fast._facts(str(folder))
        assert quick_facts is None or fast._runs(quick_facts) in (True, False)
        facts = store.read_env(NAME)
        if facts is None:
            return
        assert 0 < facts.ssh_port < 65536 and 0 < facts.docker_port < 65536 and 0 <= facts.engine_port < 65536
        if facts.process is not None:
            assert 0 < facts.process.pid < PID_LIMIT
            assert is_alive(facts.process) in (True, False)

    known = [
        sample.replace(old, new) for old, new in ((b"2022", b"99999"), (b"pid=", b"pid=\0"), (b"pid=", b"pid=9" * 999))
    ]
    fuzz(damaged(sample), check, known)


def test_records_of_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu_process, "_commands", lambda: iter(()))
    paths = MachinePaths(tmp_path)
    process = {"pid": os.getpid(), "start_time": "1", "boot_id": "x"}
    endpoint = {"address": "127.0.59.103", "ssh_port": 2022, "docker_port": 2376}
    launch: dict[str, Any] = {
        "endpoint": endpoint,
        "hardware": ["-m", "1024M"],
        "image": "a" * 64,
        "process": process,
        "loader": process,
    }
    launch |= {"missing": [1], "servers": [process, None], "disk": 5}
    agent = {"agent": process, "refusals": [{"service": "SSH", "place": "127.0.0.1:2022", "reason": "taken"}]}
    saved = {"qemu": "8.2", "hardware": ["-m", "1024M"], "image": "a" * 64}

    identity = ProcessIdentity(os.getpid(), "1", "x")

    def check(contents: tuple[bytes, bytes, bytes, bytes, bytes]) -> None:
        paths.qemu_record.write_bytes(contents[0])
        paths.qemu_saved.write_bytes(contents[1])
        paths.agent_process.write_bytes(contents[2])
        paths.qemu_pid.write_bytes(contents[3])
        recorded = QemuProcess(paths).launch()
        if recorded is not None:
            assert 0 < recorded.endpoint.ssh_port < 65536 and 0 < recorded.endpoint.docker_port < 65536
            assert isinstance(recorded.endpoint.address, str) and isinstance(recorded.image, str)
            assert all(isinstance(word, str) for word in recorded.hardware)
            assert all(type(number) is int for number in (*recorded.missing, recorded.disk))
        QemuProcess(paths).find()
        QemuProcess(paths).is_abandoned()
        dependencies = SavedState(paths).dependencies()
        assert dependencies is None or all(
            isinstance(word, str) for word in (*dependencies.hardware, dependencies.image, dependencies.qemu)
        )
        control._read_record(paths)
        paths.agent_report.write_bytes(contents[4])
        for refusal in report.read(paths.agent_report, identity) or ():
            assert refusal.sentence("box")

    pid = damaged(b"%d\n" % os.getpid())
    worse = [{**launch, "disk": float("inf")}, {**launch, "endpoint": {**endpoint, "ssh_port": "x"}}]
    known = [(dumped(process), dumped({**saved, "hardware": None}), b"[]", b"-1", b"[]") for process in worse]
    fuzz(
        st.tuples(bent(launch), bent(saved), bent({"companion": process, "machine": process}), pid, bent(agent)),
        check,
        known,
    )


def test_facts_of_an_image(tmp_path: Path) -> None:
    paths = Home(tmp_path).image("a" * 64)
    paths.folder.mkdir(parents=True)
    part = {"sha256": "b" * 64, "size": 5}
    suite = {"name": "trixie", "date": "2026-01-01T00:00:00Z", "state": "current"}
    facts: dict[str, Any] = {
        "format": 2,
        "version": "1",
        "size": 5,
        "sources": {"debian": 1.5, "/x.iso": 2},
        "arguments": "quiet",
    }
    facts |= {"kernel": part, "initrd": part, "stored": part, "root": {"offset": 2048, "size": 5}, "suites": [suite]}
    images = image_store.ImageStore(Home(tmp_path))

    def check(contents: tuple[bytes, bytes]) -> None:
        paths.facts.write_bytes(contents[0])
        paths.checked.write_bytes(contents[1])
        assert isinstance(image_store._read_stamps(paths), dict)
        for image in images.all():
            assert image.root is None or (type(image.root.offset) is int and type(image.root.size) is int)
            assert image.root is None or min(image.root.offset, image.root.size) >= 0
            assert (image.date, image.lacks, image.size >= 0, images.unused([]))[2]
            with suppress(B2dError):
                images.verify(image)

    worse = [
        {**facts, "size": float("inf")},
        {**facts, "sources": {"x": 10**400}},
        {**facts, "root": {"offset": "x", "size": 1}},
    ]
    fuzz(st.tuples(bent(facts), bent({"x.iso": [1, 2, 3]})), check, [(dumped(document), b"[]") for document in worse])


def test_descriptions_inside_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = {"name": "trixie", "date": "2026-01-01T00:00:00Z", "state": "current"}
    packages = [{"name": "linux-image-6.12-amd64", "version": "6.12-1"}, {"name": "x", "version": "1:2~a-3"}]
    content_of_iso = [b""]
    for module in (suites, manifest):
        monkeypatch.setattr(module, "read_file", lambda *_: content_of_iso[0])

    def check(content: bytes) -> None:
        content_of_iso[0] = content
        assert len(suites.of_iso(tmp_path)) <= suites.MAX_SUITES
        versions = manifest.read_versions(tmp_path, "trixie")
        with suppress(ImageError):
            Freshness(stored=versions).check_versions(dict.fromkeys(versions, "1.0"), FakeReporter())

    said_so = {"format": 1, "suites": [suite], "packages": packages}
    worse = [[{"name": "x", "version": version}] for version in ("no version", "9" * 5000)]
    fuzz(bent(said_so), check, [dumped({**said_so, "packages": rows}) for rows in worse])


def test_files_of_a_damaged_iso(tmp_path: Path) -> None:
    path, iso = tmp_path / "x.iso", a_b2d_iso()

    def check(content: bytes) -> None:
        path.write_bytes(content)
        suites.of_iso(path)
        manifest.read_versions(path, "trixie")

    fuzz(damaged(iso, hot=((32768, 32768 + 4096), (36864, len(iso)), (36864, 36864 + 16384))), check)


def test_dates_of_indexes(tmp_path: Path) -> None:
    path = tmp_path / "suites.json"
    dates = {"trixie": "2026-01-01T00:00:00+00:00", "x": "2026-01-01", "y": "0001-01-01T00:00:00+14:00"}

    def check(content: bytes) -> None:
        path.write_bytes(content)
        with suppress(ImageError):
            read = freshness.read_dates(path)
            for suite in read:
                Freshness(read, allow_expired=True).judge(suite, datetime.now(UTC), None, FakeReporter())
                with suppress(ImageError):
                    Freshness(read).judge(suite, datetime(2001, 1, 1, tzinfo=UTC), None, FakeReporter())

    fuzz(bent({"format": 1, "suites": dates}), check)


def test_a_signed_index(tmp_path: Path) -> None:
    key = Tsk.generate("a <a@example.com>")
    trusted = tmp_path / "key.pgp"
    trusted.write_bytes(bytes(key.extract_certificate()))
    text = b"Origin: Debian\nCodename: trixie\n" + b"SHA256:\n " + b"a" * 64 + b" 12 main/Packages.xz\n"
    signed = sign(key.signer(), text, mode=SignatureMode.CLEAR)

    def check(content: bytes) -> None:
        with suppress(ImageError):
            assert signature.verify(content, [trusted], "http://127.0.0.1").rstrip() == text.rstrip()

    fuzz(damaged(signed, hot=((0, len(signed)), (len(signed) - 300, len(signed)))), check)


def a_squashfs(folder: Path) -> bytes:
    tree = Tree()
    tree.put("usr/bin/sudo", file(b"the same words again\n" * 30_000, 0o4755))
    for number in range(40):
        tree.put(f"etc/file{number}", file(b"%d" % number * 50, 0o600))
    tree.put("home/docker", a_folder(0o750))
    tree.put("bin", link("usr/bin"))
    squashfs.pack(tree, 1_700_000_000, folder / "packed")
    return (folder / "packed").read_bytes()


def test_a_recompressed_root(tmp_path: Path) -> None:
    packed = a_squashfs(tmp_path)
    plain = io.BytesIO()
    write_uncompressed(io.BytesIO(packed), 0, len(packed), plain)
    whole = plain.getvalue()
    tables = tuple(int.from_bytes(whole[at : at + 8], "little") for at in range(48, 96, 8))
    inside = tuple((place, min(place + 3000, len(whole))) for place in tables if place < len(whole))

    def check(content: bytes) -> None:
        written = io.BytesIO()
        with suppress(SquashfsError):
            write_uncompressed(io.BytesIO(content), 0, len(content), written)
        assert len(written.getvalue()) <= 64 << 20

    fuzz(damaged(whole, hot=((0, 96), *inside)), check)
    fuzz(damaged(packed, hot=((0, 96), (len(packed) - 4000, len(packed)))), check)


def test_a_config_toml() -> None:
    sample = (
        b'memory = 2048\ncpus = 2\nshare = ["~/*", "/data:ro"]\nimage = "debian"\ntls = true\n# vm\nvm = "box"\n'
        b'address = "127.0.59.103"\nno_proxy = """\nmemory = 1\n"""\nhttp_proxy = "http://u:p@h:1/"\n'
    )
    huge = b"memory = 0x" + b"F" * 5000 + b"\n"
    nested = b"memory" + b".a" * 3000 + b" = 1\n"

    def check(content: bytes) -> None:
        text = content.decode(errors="replace")
        with suppress(ConfigError):
            for setting in loader.parse_toml("config.toml", text):
                with suppress(ConfigError):
                    loader.parse_value(setting)
        with suppress(ConfigError):
            loader._parse_table("config.toml", text)
            toml_edit.unset_value(toml_edit.set_value(text, "cpus", 3), "memory")

    known = [huge, nested, b"vm = [" + huge[9:] + b"]", b'x = """\n' + b"memory = 1\n" * 50_000 + b'"""\nmemory = -1\n']
    fuzz(st.one_of(damaged(sample), damaged(sample + huge, sample + nested)), check, known)


def test_ssh_keys_and_known_hosts(tmp_path: Path) -> None:
    paths = ssh_server.machine(tmp_path)
    known, host, own = (path.read_bytes() for path in (paths.known_hosts, paths.host_key, paths.ssh_key))
    more = b"@revoked * " + known.split(b" ", 1)[1] + b"|1|AAAA|AAAA= ssh-rsa AAAA\nx ecdsa-sha2-nistp256 AAAAE2Vj\n"
    key = paramiko.Ed25519Key.from_private_key_file(str(paths.host_key))

    def check(contents: tuple[bytes, bytes, bytes]) -> None:
        paths.known_hosts.write_bytes(contents[0])
        paths.host_key.write_bytes(contents[1])
        paths.ssh_key.write_bytes(contents[2])
        with suppress(B2dError):
            keys.is_known(paths, key)
        for use in (keys.ensure_known, keys.ensure_client, connection.read_key):
            with suppress(B2dError):
                use(paths)

    fuzz(
        st.tuples(damaged(known, known + more), damaged(host), damaged(own)),
        check,
        [(known, host, own[:167]), (known, host, own[:118] + b"A" + own[119:])],
    )


def test_autostart_items() -> None:
    words = ["python", "-m", "b2d", "up"]
    plist = templates.plist("b2d.box", "b2d: /home/x", words, {"PATH": "/bin"})
    unit = templates.unit("b2d: /home/x", words, words, {"PATH": "/bin"})
    import plistlib

    binary = plistlib.dumps({"B2DMachine": "x", "a": [[[[1, b"x"]]], {"b": 2.5}]}, fmt=plistlib.FMT_BINARY)

    def check(content: bytes) -> None:
        assert isinstance(templates.plist_mark(content), str)
        assert isinstance(templates.unit_mark(content), str)

    known = [b"<plist><key>a</key></plist>", b"<plist>" + b"<array>" * 50_000, b"<plist><array>" * 2000]
    fuzz(damaged(plist, unit, binary), check, known)


def test_machine_records_of_other_programs(tmp_path: Path) -> None:
    meta = {"Name": "box", "Metadata": {"Description": "b2d"}, "Endpoints": {"docker": {"Host": "tcp://x"}}}
    context = DockerContext(MachinePaths(tmp_path / "box"), {"DOCKER_CONFIG": str(tmp_path)})
    folder = context._store / "meta" / context._digest
    folder.mkdir(parents=True)
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "disk.vmdk").touch()

    def check(contents: tuple[bytes, bytes]) -> None:
        (folder / "meta.json").write_bytes(contents[0])
        context._stored()
        (tmp_path / "m" / "config.json").write_bytes(contents[1])
        with suppress(B2dError):
            candidate = candidates.from_folder(tmp_path / "m")
            assert 0 <= candidate.cpus <= 1024 and 0 <= candidate.memory_mib <= 1 << 24

    fuzz(st.tuples(bent(meta), bent({"Driver": {"Memory": 1024, "CPU": 1}})), check)


def test_virtualbox_settings_log_and_forwards(tmp_path: Path) -> None:
    settings, log = tmp_path / "x.vbox", tmp_path / "VBox.log"
    sample = foreign_machines.settings("box", "x.vmdk").encode()
    error_line = b"00:00:01 ERROR [COM]: aRC=E_FAIL aText={It is locked}, preserve=false\n"

    rules = b"b2d-docker,1,127.0.59.103,2376,,2376\nb2d-port-tcp-127.0.0.1-80,1,127.0.0.1,80,,80\na, person's,0,,5,,5"

    def check(contents: tuple[bytes, bytes, bytes]) -> None:
        settings.write_bytes(contents[0])
        log.write_bytes(contents[1])
        assert machine_state.read_state_file(settings)
        assert isinstance(machine_state.last_error(log), str)
        rules = contents[2].decode(errors="replace").split("\n")
        named = list(port_forwards.parse_rules(rules))
        assert all(0 <= port < 65536 for _, _, port in named)
        machine: Any = SimpleNamespace(forwards=lambda: named)
        assert all(0 < forward.port < 65536 for forward in port_forwards.list_forwards(machine))

    long = [(b"<Machine " * 400_000, b"aText={" * 500_000, b"")]
    fuzz(st.tuples(damaged(sample), damaged(error_line * 2), damaged(rules)), check, long)


def test_the_record_of_shellinit() -> None:
    sample = "tcp://127.0.59.103:2376,unix:///x%2Cy,,,127.0.59.103"

    def check(content: bytes) -> None:
        text = content.decode("utf-8", "surrogateescape").replace("\0", "")
        environ = {"B2D_BEFORE": text, "DOCKER_HOST": "tcp://127.0.59.103:2376", "no_proxy": "a,127.0.59.103"}
        variables.unset_changes(environ)
        variables.set_changes({"DOCKER_HOST": "tcp://127.0.59.104:2376"}, {**environ, "http_proxy": "x"})

    fuzz(damaged(sample.encode()), check)


def test_certificates_and_their_keys(tmp_path: Path) -> None:
    paths = MachinePaths(tmp_path)
    now = datetime.now(UTC)
    tls_certificates.ensure_certificates(paths, ["127.0.59.103"], now)
    files = [paths.certs / "ca.pem", paths.authority / "ca-key.pem", paths.authority / "server.pem"]
    files += [paths.authority / "server-key.pem", paths.certs / "cert.pem", paths.certs / "key.pem"]
    sound = [path.read_bytes() for path in files]
    inside = [ssl.PEM_cert_to_DER_cert(pem.decode()) for pem in (sound[0], sound[2], sound[4])]

    def check(change: tuple[int, bytes, bytes]) -> None:
        for path, content in zip(files, sound, strict=True):
            path.write_bytes(content)
        which, text, binary = change
        files[which].write_bytes(text if which % 2 else ssl.DER_cert_to_PEM_cert(binary).encode())
        tls_certificates.expiry_warning(paths, ["127.0.59.103"], now)
        with suppress(B2dError):
            tls_certificates.ensure_certificates(paths, ["127.0.59.103"], now)
        with suppress(B2dError):
            tls_certificates.authorities(files[which])

    worse = [(0, sound[0], inside[0][:place] + b"\xff\xff" + inside[0][place + 2 :]) for place in range(len(inside[0]))]
    fuzz(st.tuples(st.integers(0, 5), damaged(*sound), damaged(*inside)), check, worse[::7])


def test_a_seed(tmp_path: Path) -> None:
    network_files = {"http_proxy": b"http://x", network_config.RECORD: b"{}"}
    disk = seed.image(seed.Seed("box", "ssh-ed25519 AAAA", b"key", None, Access(), [], network_files))

    def check(content: bytes) -> None:
        read = seed.network(content)
        assert sum(map(len, read.values())) <= len(content)
        seed.access(content)

    places = tuple((at, at + 512) for at in range(0, len(disk), 1024))
    known = [gzip.compress(disk[:1024] + bytes(64 << 20)), lzma.compress(bytes(64 << 20))]
    fuzz(damaged(disk, hot=((0, len(disk)), *places)), check, known)
