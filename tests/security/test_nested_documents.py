"""JSON, TOML and XML with endless nesting or endless numbers end in one error message."""

from contextlib import suppress
from pathlib import Path

import pytest

from b2d.app.support_bundle import _docker_secrets
from b2d.config import loader
from b2d.config.boot2docker_profile import convert_options
from b2d.errors import B2dError, ConfigError, DownloadError
from b2d.formats import json_text, numbers, toml_document, vbox_settings
from b2d.image import image_store, releases
from b2d.importing.candidates import from_folder
from b2d.network import partial_file
from b2d.paths import Home
from tests.support.cli import Prompt
from tests.support.foreign_machines import settings as of_virtualbox
from tests.support.timing import cpu_limit

NESTED = [b"[" * 100_000, b'{"a":' * 100_000, b"[" * 100_000 + b"]" * 100_000, b"9" * 6000, b"\xff\xfe", b""]
ENDLESS = [
    b"Infinity",
    b"[-Infinity]",
    b'{"a":NaN}',
    b"1e999",
    b"[" * 201 + b"]" * 201,
    b'{"a":' * 201 + b"1" + b"}" * 201,
]


@pytest.mark.parametrize("document", [*NESTED, *ENDLESS])
def test_json_that_is_nested_too_deeply_is_a_value_error(document: bytes) -> None:
    with pytest.raises(ValueError):
        json_text.parse(document)


@pytest.mark.parametrize("document", [*NESTED[:4], b"7", b"[7]", b'[{"assets": 7}]', b'[{"assets": [7]}]', b"null"])
def test_nested_json_from_a_releases_api_is_an_invalid_answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, document: bytes
) -> None:
    monkeypatch.setattr("b2d.network.http_cache.get_cached", lambda *_: document)
    with pytest.raises(DownloadError, match="did not answer as a releases API"):
        releases.newest_release(tmp_path, "http://127.0.0.1/")


@pytest.mark.parametrize("document", [b"[" * 100_000, b'{"a":' * 100_000, b"9" * 6000, b"7", b"[]", b'{"format":1}'])
def test_records_of_this_home_with_invalid_json_count_as_absent(tmp_path: Path, document: bytes) -> None:
    paths = Home(tmp_path).image("0" * 64)
    paths.folder.mkdir(parents=True)
    for path in (paths.facts, paths.checked):
        path.write_bytes(document)
    assert image_store._read_record(paths) is None
    assert isinstance(image_store._read_stamps(paths), dict)
    (tmp_path / "mark").write_bytes(document)
    assert isinstance(partial_file.read_record(tmp_path / "mark"), dict)


def test_nested_client_settings_contain_no_known_secrets() -> None:
    assert list(_docker_secrets("[" * 100_000)) == []
    assert list(_docker_secrets('{"a":' * 900 + "1" + "}" * 900)) == []


def test_a_nested_docker_machine_config_has_no_memory_or_cpus(tmp_path: Path) -> None:
    (tmp_path / "disk.vmdk").touch()
    for content in (b"[" * 100_000, b'{"Driver":{"Memory":' + b"9" * 4000 + b',"CPU":-5}}', b'{"Driver":[]}'):
        (tmp_path / "config.json").write_bytes(content)
        candidate = from_folder(tmp_path)
        assert (candidate.memory_mib, candidate.cpus) == (0, 0)


TOML = ["a = " + "[" * 100_000, "a = " + "[" * 100_000 + "]" * 100_000, "a = " + "9" * 6000, "a = " + "{b=" * 10_000]
TOML += [f"a = 0x{'F' * 5000}", f"a = [{{b = 0b{'1' * 20_000}}}]", f"a{'.a' * 60} = 1", f"a{'.a' * 50_000} = 1"]


@pytest.mark.parametrize("text", TOML)
def test_toml_that_is_nested_too_deeply_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        toml_document.parse(text)
    with pytest.raises(ConfigError, match="is not valid TOML"):
        loader.parse_toml("profile", text)


def test_megabytes_of_toml_are_not_parsed() -> None:
    with cpu_limit(1), pytest.raises(ValueError, match="more than"):
        toml_document.parse("\n".join(f"[a{'.a' * 300}.b{number}]" for number in range(5000)))


def test_ordinary_documents_are_parsed() -> None:
    names = ", ".join(f'"host{number}.department.example.com"' for number in range(300))
    assert len(toml_document.parse(f"no_proxy = [{names}]")["no_proxy"]) == 300
    assert json_text.parse("[" * 200 + "]" * 200)
    assert json_text.parse(b'[1.5, {"a": [-0.0, 1e300]}]') == [1.5, {"a": [0.0, 1e300]}]


@pytest.mark.parametrize("line", [f"[a{'.a' * 99}.b%d]\n", f"b{'.b' * 40}%d = 1\n"])
def test_toml_of_maximum_length_is_parsed_in_seconds(line: str) -> None:
    with cpu_limit(15):
        lines = (line % number for number in range(toml_document.SIZE_LIMIT // len(line)))
        with suppress(ConfigError):
            loader.parse_toml("profile", "".join(lines)[: toml_document.SIZE_LIMIT])


@pytest.mark.parametrize("value", ["9" * 6000, "\u0663", 10**4000, -(10**4000), "-5", True, 1e300])
def test_absurd_numbers_in_a_profile_are_not_a_bug(value: object) -> None:
    for word in ("Retries", "WaitTime", "DockerPort", "Memory"):
        assert str(convert_options({word: value}))[:1] == "["


def test_a_profile_that_is_a_device_or_nested_is_reported_in_one_sentence(tmp_path: Path) -> None:
    for number, content in enumerate(TOML):
        profile = tmp_path / f"profile{number}"
        profile.write_text(content)
        result = Prompt(tmp_path).b2d("config", BOOT2DOCKER_PROFILE=str(profile))
        assert result.code == 2 and "is not valid TOML" in result.err and "bug" not in result.err
    result = Prompt(tmp_path).b2d("config", BOOT2DOCKER_PROFILE="/dev/zero")
    assert result.code == 2 and "bug" not in result.err


def test_a_settings_file_with_many_disks_is_read_quickly(tmp_path: Path) -> None:
    path = tmp_path / "x.vbox"
    disks = "".join(f"<HardDisk uuid='{number}'/>" for number in range(80_000))
    media = f"<MediaRegistry><HardDisks><HardDisk>{disks}</HardDisk></HardDisks></MediaRegistry>"
    images = "".join(f"<Image uuid='x{number}'/>" for number in range(80_000))
    drives = f"<StorageController><AttachedDevice type='HardDisk'>{images}</AttachedDevice></StorageController>"
    drives = f"<StorageControllers>{drives}</StorageControllers>"
    path.write_text(f"<VirtualBox><Machine name='x'>{media}{drives}</Machine></VirtualBox>")
    with cpu_limit(10):
        assert not vbox_settings.read(path).has_snapshots


ENTITIES = "".join(f'<!ENTITY {chr(98 + level)} "{f"&{chr(97 + level)};" * 10}">' for level in range(9))
LAUGHS = f'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">{ENTITIES}]>'


@pytest.mark.parametrize(
    "content",
    [
        f"{LAUGHS}<VirtualBox><Machine name='&j;'/></VirtualBox>",
        "<!DOCTYPE x SYSTEM 'file:///etc/passwd'><VirtualBox/>",
        "<!DOCTYPE x [<!ENTITY f SYSTEM 'file:///etc/passwd'>]><VirtualBox><Machine name='&f;'/></VirtualBox>",
        "<a>" * 100_000,
        "<a>" * 100_000 + "</a>" * 100_000,
        "<?xml version='1.0' encoding='nonsense'?><a/>",
        of_virtualbox("x", "x").replace('RAMSize="1024"', f'RAMSize="{"9" * 6000}"'),
        of_virtualbox("x", "x").replace('RAMSize="1024"', 'RAMSize="-1"'),
        of_virtualbox("x", "x").replace('CPU count="2"', 'CPU count="9999999999"'),
    ],
    ids=["laughs", "external", "entity", "deep", "deep and closed", "encoding", "long", "negative", "many"],
)
def test_an_xml_bomb_is_reported(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.vbox"
    path.write_text(content)
    with cpu_limit(5), pytest.raises(B2dError):
        vbox_settings.read(path)


@pytest.mark.parametrize("text", ["", "-1", "+1", " 1", "1_0", "\u0663", "9" * 6000, "1.0", "0x10", "65536", "1\n"])
def test_an_invalid_number_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        numbers.parse(text, 65535)
    with pytest.raises(ValueError):
        numbers.parse(text.encode(), 65535)
    assert numbers.parse("0", 0) == 0 and numbers.parse(b"65535", 65535) == 65535
