"""Stored machine specs: written atomically, private, and reported by name when unreadable."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2d.errors import B2dError, ConfigError, MachineLockedError
from b2d.machine_store.running_facts import RunningFacts
from b2d.machine_store.store import MachineStore, check_name
from b2d.models import DockerEnv, ProcessIdentity
from b2d.paths import Home
from tests.support.fakes import a_spec
from tests.support.paths import ROOT

FACTS = RunningFacts(
    "127.0.59.103", 2022, 2376, DockerEnv("tcp://127.0.59.103:2376", "/certs"), ProcessIdentity(7, "8", "9")
)
GOOD = {"schema": 1, **a_spec("box")._asdict()}


@pytest.fixture
def store(tmp_path: Path) -> MachineStore:
    return MachineStore(Home(tmp_path / "home with ünicode"), lock_wait_s=0.1)


def put(store: MachineStore, content: bytes, name: str = "box") -> Path:
    path = store.home.machine(name).spec
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_a_spec_is_read_back_as_written(store: MachineStore) -> None:
    spec = a_spec("box", tls=False, restrict=True, address="127.0.59.200", source="/über/my image.iso")
    store.write(spec)
    assert store.read("box") == spec
    store.write(spec._replace(memory_mib=1024))
    assert store.read("box") == spec._replace(memory_mib=1024)


def test_a_spec_of_an_earlier_b2d_has_no_other_images(store: MachineStore) -> None:
    later = ("previous", "refused", "trial")
    put(store, json.dumps({key: value for key, value in GOOD.items() if key not in later}).encode())
    assert store.read("box") == a_spec("box")


def test_a_missing_machine_has_no_spec(store: MachineStore) -> None:
    assert store.read("box") is None
    assert store.names() == []
    store.home.machines.mkdir(parents=True)
    (store.home.machines / "box").write_text("a file")
    assert store.read("box") is None
    assert store.names() == []


def test_machines_are_folders_with_a_spec_and_a_valid_name(store: MachineStore) -> None:
    for name in ("b", "a.1", "C"):
        store.write(a_spec(name))
    put(store, b"broken", "broken")
    (store.home.machines / "half-made").mkdir()
    put(store, b"{}", ".hidden")
    put(store, b"{}", "a b")
    assert store.names() == ["C", "a.1", "b", "broken"]


@pytest.mark.parametrize("name", ["boot2docker-vm", "a", "9", "A.b_c-d", "x" * 63])
def test_a_valid_name_is_accepted(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize("name", ["", ".", "..", "-a", "_a", "a/b", "../a", "a b", "ä", "x" * 64, "a\n", "a\0", "²"])
def test_an_invalid_name_is_refused(store: MachineStore, name: str) -> None:
    for ask in (store.read, store.remove, store.remove_env, store.read_env):
        with pytest.raises(ConfigError) as caught:
            ask(name)
        assert caught.value.exit_code == 2
        assert caught.value.hint
    with pytest.raises(ConfigError), store.lock(name, "up"):
        pass


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not JSON"),
        (json.dumps(GOOD).encode()[:-20], "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "not a machine's description"),
        (b"{}", "not a machine's description"),
        (json.dumps({**GOOD, "schema": True}).encode(), "not a machine's description"),
        (json.dumps({**GOOD, "schema": "1"}).encode(), "not a machine's description"),
        (json.dumps({**GOOD, "schema": 2}).encode(), "newer b2d"),
        (json.dumps({**GOOD, "memory_mib": "512"}).encode(), "'memory_mib' cannot be '512'"),
        (json.dumps({**GOOD, "memory_mib": True}).encode(), "'memory_mib' cannot be True"),
        (json.dumps({**GOOD, "tls": 1}).encode(), "'tls' cannot be 1"),
        (json.dumps({**GOOD, "colour": "red"}).encode(), "'colour' is unknown"),
        (json.dumps({key: value for key, value in GOOD.items() if key != "image"}).encode(), "'image' is missing"),
        (json.dumps({**GOOD, "name": "other"}).encode(), "moved or copied"),
    ],
)
def test_an_invalid_spec_is_reported_with_its_file(store: MachineStore, content: bytes, message: str) -> None:
    path = put(store, content)
    with pytest.raises(B2dError) as caught:
        store.read("box")
    assert caught.value.exit_code == 1
    assert str(path) in caught.value.message
    assert message in caught.value.message


def test_an_unreadable_spec_is_reported_with_its_file(store: MachineStore) -> None:
    path = store.home.machine("box").spec
    path.mkdir(parents=True)
    with pytest.raises(B2dError, match=r"machine\.json"):
        store.read("box")


@given(st.binary())
def test_any_invalid_spec_is_a_b2d_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    odd = MachineStore(Home(tmp_path_factory.getbasetemp() / "odd"))
    put(odd, content)
    with pytest.raises(B2dError):
        odd.read("box")


def test_missing_keys_have_the_defaults_of_older_versions(store: MachineStore) -> None:
    put(store, json.dumps({key: value for key, value in GOOD.items() if key not in ("tls", "restrict")}).encode())
    assert store.read("box") == a_spec("box")


def test_neighbours_are_the_other_readable_machines(store: MachineStore) -> None:
    for name in ("box", "near", "far"):
        store.write(a_spec(name))
    put(store, b"broken", "broken")
    put(store, json.dumps({**GOOD, "schema": 9}).encode(), "newer")
    assert store.neighbours("box") == [a_spec("far"), a_spec("near")]


def test_removing_a_machine_twice_is_no_error(store: MachineStore) -> None:
    store.write(a_spec("box"))
    store.write(a_spec("near"))
    (store.home.machine("box").folder / "certs").mkdir()
    store.remove("box")
    store.remove("box")
    assert store.names() == ["near"]
    assert not store.home.machine("box").folder.exists()


def test_all_stored_files_are_private_with_any_umask(store: MachineStore) -> None:
    before = os.umask(0)
    try:
        with store.lock("box", "up"):
            store.write(a_spec("box"))
            store.write_env("box", FACTS)
    finally:
        os.umask(before)
    paths = store.home.machine("box")
    folders = (store.home.root, store.home.machines, paths.folder)
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in folders] == [0o700] * 3
    assert [stat.S_IMODE(file.stat().st_mode) for file in (paths.spec, paths.env)] == [0o600] * 2


@pytest.mark.parametrize(
    "facts",
    [
        FACTS,
        FACTS._replace(docker=DockerEnv("tcp://127.0.59.103:2375")),
        FACTS._replace(process=None),
        FACTS._replace(docker=DockerEnv("tcp://h:1", "/with = and ünicode \udcff/certs ")),
        FACTS._replace(process=ProcessIdentity(7, "8", "")),
    ],
    ids=["tls", "plain", "no process", "odd path", "no boot id"],
)
def test_facts_are_read_back_as_written(store: MachineStore, facts: RunningFacts) -> None:
    store.write(a_spec("box"))
    store.write_env("box", facts)
    assert store.read_env("box") == facts


@given(path=st.text(st.characters(exclude_characters="\n\r\0", exclude_categories=["Cs"]), min_size=1))
def test_facts_may_contain_any_path_of_one_line(tmp_path_factory: pytest.TempPathFactory, path: str) -> None:
    store = MachineStore(Home(tmp_path_factory.getbasetemp() / "any"))
    store.write(a_spec("box"))
    facts = FACTS._replace(docker=DockerEnv("tcp://h:1", path))
    store.write_env("box", facts)
    assert store.read_env("box") == facts


@pytest.mark.parametrize("path", ["/two\nlines", "/two\rlines"])
def test_a_line_break_is_refused_and_the_file_is_not_touched(store: MachineStore, path: str) -> None:
    store.write(a_spec("box"))
    store.write_env("box", FACTS)
    with pytest.raises(B2dError, match="DOCKER_CERT_PATH contains a line break"):
        store.write_env("box", FACTS._replace(docker=DockerEnv("tcp://h:1", path)))
    assert store.read_env("box") == FACTS


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"address",
        b"address=1\n",
        b"address=a\nssh_port=x\ndocker_port=1\nDOCKER_HOST=h\n",
        b"address=a\nssh_port=1\ndocker_port=1\nDOCKER_HOST=h\npid=1\n",
    ],
)
def test_incomplete_facts_count_as_missing(store: MachineStore, content: bytes) -> None:
    store.write(a_spec("box"))
    store.home.machine("box").env.write_bytes(content)
    assert store.read_env("box") is None


def test_facts_are_removed_and_removing_twice_is_no_error(store: MachineStore) -> None:
    store.remove_env("box")
    store.write(a_spec("box"))
    store.write_env("box", FACTS)
    store.remove_env("box")
    store.remove_env("box")
    assert store.read_env("box") is None


def test_facts_of_a_machine_without_a_folder_are_an_error_with_their_path(store: MachineStore) -> None:
    with pytest.raises(B2dError, match="env"):
        store.write_env("box", FACTS)


def test_a_lock_has_one_holder_and_is_released_after_a_failure(store: MachineStore) -> None:
    with pytest.raises(ZeroDivisionError), store.lock("box", "up"):
        with pytest.raises(MachineLockedError, match="`b2d up`"), store.lock("box", "stop"):
            pass
        with store.lock("other", "up"):
            raise ZeroDivisionError
    with store.lock("box", "stop"):
        assert store.home.machine("box").holder.read_text() == f"{os.getpid()} stop\n"
    assert not store.home.machine("box").holder.exists()


def test_an_unknown_holder_is_reported_as_another_b2d(store: MachineStore) -> None:
    with store.lock("box", "up"):
        store.home.machine("box").holder.write_text("odd")
        with pytest.raises(MachineLockedError, match="another b2d"), store.lock("box", "stop"):
            pass


READER = """
import sys
from pathlib import Path
from b2d.paths import Home
from b2d.machine_store.store import MachineStore
store = MachineStore(Home(Path(sys.argv[1])))
print("ready", flush=True)
for _ in range(2000):
    store.read("box")
"""


def test_a_concurrent_reader_sees_a_complete_spec(store: MachineStore) -> None:
    store.write(a_spec("box"))
    command = [sys.executable, "-c", READER, str(store.home.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"ready\n"
        writes = 0
        while reader.poll() is None:
            store.write(a_spec("box", memory_mib=512 + writes))
            writes += 1
    assert reader.returncode == 0
    assert writes > 5
