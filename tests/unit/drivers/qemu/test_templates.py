"""The templates of a home: what is found, and what is removed."""

import json
import os
import time
from pathlib import Path

import pytest

from b2d.drivers.qemu.accelerator import Accelerator
from b2d.drivers.qemu.templates import LEFTOVER, LEFTOVER_AGE_S, REFUSED_S, Template, Templates, key_of

KEY, OTHER = "a" * 32, "b" * 32


@pytest.fixture
def templates(tmp_path: Path) -> Templates:
    return Templates(tmp_path / "templates", limit_mib=2)


def add(templates: Templates, key: str, content: bytes = b"state", disk: bytes = b"") -> None:
    with templates.add(key, "image") as draft:
        os.write(draft.state, content)
        if disk:
            draft.disk.write_bytes(disk)


def state(templates: Templates, key: str = KEY) -> Path:
    return templates.files(key)[1]


def test_a_template_is_private_and_is_found_by_its_key(templates: Templates) -> None:
    add(templates, KEY)
    assert templates.find(KEY) == Template(state(templates))
    assert templates.find(OTHER) is None
    files = [path for path in templates.files(KEY) if path.exists()]
    assert [path.stat().st_mode & 0o777 for path in (templates.folder, *files)] == [0o700, 0o600, 0o600]


def test_a_template_may_have_a_disk(templates: Templates) -> None:
    add(templates, KEY, disk=b"disk")
    template = templates.find(KEY)
    assert template is not None
    assert template.disk is not None
    assert template.disk.read_bytes() == b"disk"
    assert templates.all()[KEY].size == len(b"state" + b"disk")
    assert set(templates.folder.iterdir()) == set(templates.files(KEY))


def test_a_template_with_another_disk_is_removed(templates: Templates) -> None:
    for damage in (lambda disk: disk.write_bytes(b"Disk"), Path.unlink):
        add(templates, KEY, disk=b"disk")
        damage(templates.files(KEY)[2])
        assert templates.find(KEY) is None
        assert list(templates.folder.iterdir()) == []


def test_the_limit_includes_disks(templates: Templates) -> None:
    add(templates, KEY, disk=bytes(3 << 20))
    assert list(templates.folder.iterdir()) == []


def test_an_incomplete_state_is_removed(templates: Templates) -> None:
    with pytest.raises(OSError, match="full"), templates.add(KEY, "image") as draft:
        os.write(draft.state, b"half")
        draft.disk.write_bytes(b"half")
        raise OSError("full")
    assert list(templates.folder.iterdir()) == []


@pytest.mark.parametrize("content", [b"other", b"stat", b""])
def test_a_changed_state_is_removed(templates: Templates, content: bytes) -> None:
    add(templates, KEY)
    state(templates).write_bytes(content)
    assert templates.find(KEY) is None
    assert not state(templates).exists()


def test_a_copied_state_is_hashed_once_and_used(templates: Templates) -> None:
    add(templates, KEY)
    copy = templates.folder / "copy"
    copy.write_bytes(state(templates).read_bytes())
    copy.replace(state(templates))
    assert templates.find(KEY) is not None
    before = templates.files(KEY)[0].read_bytes()
    assert templates.find(KEY) is not None
    assert templates.files(KEY)[0].read_bytes() == before


@pytest.mark.parametrize(
    "record", [b"", b"{}", b"[]", b'{"format": 2}', b'{"format": 1, "sha256": 1}', b"\0" * 100, b"[" * 100000]
)
def test_an_unreadable_record_means_no_template(templates: Templates, record: bytes) -> None:
    add(templates, KEY)
    templates.files(KEY)[0].write_bytes(record)
    assert (templates.find(KEY), templates.is_refused(KEY), templates.all()) == (None, False, {})
    add(templates, KEY)
    assert templates.find(KEY) is not None


def test_a_missing_state_means_no_template(templates: Templates) -> None:
    add(templates, KEY)
    state(templates).unlink()
    assert templates.find(KEY) is None
    assert templates.all() == {}


def test_a_failed_template_is_not_tried_again_for_a_day(templates: Templates) -> None:
    add(templates, KEY)
    templates.refuse(KEY, "it did not answer")
    assert templates.is_refused(KEY)
    assert templates.find(KEY) is None
    assert not state(templates).exists()
    before = time.time() - REFUSED_S - 1
    os.utime(templates.files(KEY)[0], (before, before))
    assert not templates.is_refused(KEY)


def test_the_least_recently_used_template_makes_room_for_a_new_one(templates: Templates) -> None:
    keys = ["1" * 32, "2" * 32, "3" * 32]
    for age, key in zip((30, 20), keys, strict=False):
        add(templates, key, bytes(900 << 10))
        os.utime(templates.files(key)[0], (time.time() - age,) * 2)
    assert templates.find(keys[0]) is not None  # used now
    add(templates, keys[2], bytes(900 << 10))
    assert list(templates.all()) in ([keys[2], keys[0]], [keys[0], keys[2]])


def test_a_template_larger_than_the_limit_is_removed(templates: Templates) -> None:
    add(templates, KEY, bytes(3 << 20))
    assert list(templates.folder.iterdir()) == []


def test_unfinished_states_of_a_killed_b2d_are_removed_after_an_hour(templates: Templates) -> None:
    add(templates, KEY)
    names = (f".{KEY}.1.unfinished", f".{KEY}.1.qcow2.unfinished", f".{KEY}.2.unfinished")
    *old, new = (templates.folder / name for name in names)
    for path in (*old, new):
        path.write_bytes(b"")
        assert LEFTOVER.fullmatch(path.name)
    for path in old:
        os.utime(path, (time.time() - LEFTOVER_AGE_S - 1,) * 2)
    add(templates, OTHER)
    assert [path.exists() for path in (*old, new)] == [False, False, True]


def test_a_key_depends_on_hardware_image_and_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "qemu-system-x86_64"
    program.write_bytes(b"1")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    emulated = Accelerator("tcg")
    key = key_of(["-m", "1024M"], "image", emulated)
    assert key == key_of(["-m", "1024M"], "image", emulated)
    others = {key_of(["-m", "512M"], "image", emulated), key_of(["-m", "1024M"], "other", emulated)}
    others |= {key_of(["-m", "1024M"], "image", Accelerator("kvm"))}
    program.write_bytes(b"22")
    others |= {key_of(["-m", "1024M"], "image", emulated)}
    assert len(others | {key}) == 5


def test_the_record_names_the_image(templates: Templates) -> None:
    add(templates, KEY)
    document = json.loads(templates.files(KEY)[0].read_text())
    assert (document["image"], document["size"]) == ("image", 5)
