"""Flags, environment and config.toml, in this order of precedence, and invalid values of each."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2d.config import loader
from b2d.config.settings import Settings
from b2d.errors import ConfigError
from b2d.paths import Home
from b2d.shell.variables import BEFORE

RANGED = st.sampled_from(sorted(loader.RANGES))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def write_config(home: Home, content: str | bytes) -> Home:
    home.config.write_bytes(content.encode() if isinstance(content, str) else content)
    return home


def setting(home: Home, key: str, value: object) -> object:
    return getattr(loader.load(home, {}, {key: value}).settings, key)


def refused(home: Home, **environ: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        loader.load(home, environ, {})
    assert caught.value.exit_code == 2
    return caught.value


def test_without_any_source_all_settings_are_defaults(home: Home) -> None:
    effective = loader.load(home, {}, {})
    assert effective.settings == Settings()
    assert set(effective.origins) == {*Settings._fields}
    assert set(effective.origins.values()) == {"default"}


def test_a_flag_overrides_the_environment_and_the_environment_the_file(home: Home) -> None:
    write_config(home, "memory = 1000\ncpus = 1\ndisk = 5000\n")
    effective = loader.load(home, {"B2D_MEMORY": "2000", "B2D_CPUS": "2"}, {"memory": 3000, "disk": None})
    assert (effective.settings.memory, effective.settings.cpus, effective.settings.disk) == (3000, 2, 5000)
    assert effective.origins["memory"] == "--memory"
    assert effective.origins["cpus"] == "B2D_CPUS"
    assert effective.origins["disk"] == str(home.config)
    assert effective.origins["wait"] == "default"


def test_a_value_equal_to_the_default_still_has_its_origin(home: Home) -> None:
    assert loader.load(home, {"B2D_MEMORY": "2048"}, {}).origins["memory"] == "B2D_MEMORY"


def test_every_setting_can_be_set_by_flag_variable_and_file(home: Home) -> None:
    for key, value in Settings()._asdict().items():
        toml_value = list(value) if isinstance(value, tuple) else value
        text = ",".join(value) if isinstance(value, tuple) else str(value)
        if text:
            effective = loader.load(home, {f"B2D_{key.upper()}": text}, {})
            assert effective.settings == Settings()
            assert effective.origins[key] == f"B2D_{key.upper()}"
        line = f"{key} = {toml_value!r}".replace("True", "true").replace("False", "false")
        assert loader.load(write_config(home, line), {}, {}).settings == Settings()
        home.config.unlink()
    assert loader.load(home, {}, {"stop_wait": 5}).origins["stop_wait"] == "--stop-wait"


def test_an_empty_variable_is_ignored(home: Home) -> None:
    assert loader.load(home, {"B2D_MEMORY": "", "B2D_IMAGE": ""}, {}).settings == Settings()


def test_unrelated_variables_and_that_of_shellinit_are_not_read(home: Home) -> None:
    environ = {"MEMORY": "1", "B2D_HOME": "/x", "B2D_MEMROY": "1", "b2d_memory": "1", BEFORE: "tcp://h:1,,,,"}
    assert loader.load(home, environ, {}) == loader.load(home, {}, {})


def test_an_unknown_setting_gets_a_suggestion(home: Home) -> None:
    error = refused(write_config(home, "memroy = 1000\n"))
    assert error.message == f"{home.config}:1: there is no setting 'memroy': did you mean 'memory'?"
    assert error.hint.startswith("one of vm, driver, memory")
    assert refused(write_config(home, "xyzzy = 1\n")).message.endswith("there is no setting 'xyzzy'")
    assert "'machine'" in refused(write_config(home, "[machine]\nmemory = 1000\n")).message


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("memory = 'much'", "give an integer"),
        ("memory = 2048.0", "give an integer"),
        ("memory = true", "give an integer"),
        ("memory = [2048]", "give an integer"),
        ("memory = 255", "from 256 to 1048576"),
        ("ssh_port = 65536", "from 1 to 65535"),
        ("docker_port = 0", "from 1 to 65535"),
        ("wait = -1", "from 1 to 86400"),
        ("tls = 'perhaps'", "give yes or no"),
        ("tls = 2", "give yes or no"),
        ("vm = 7", "give a string"),
        ("driver = 'vmware'", "one of auto, qemu, virtualbox"),
        ("accelerator = 'KVM'", "one of auto, kvm, hvf, whpx, tcg"),
        ("address = '0.0.0.0'", "a loopback address, for example 127.0.59.103"),
        ("address = '192.168.59.103'", "a loopback address, for example 127.0.59.103"),
        ("address = 'localhost'", "a loopback address, for example 127.0.59.103"),
        ("address = '::1'", "a loopback address, for example 127.0.59.103"),
    ],
)
def test_an_invalid_value_is_reported_with_the_valid_ones(home: Home, line: str, hint: str) -> None:
    error = refused(write_config(home, line))
    assert error.message.startswith(f"{home.config}:1: {line.split(maxsplit=1)[0]} cannot be ")
    assert error.hint == hint


def test_an_invalid_value_is_reported_with_its_origin(home: Home) -> None:
    assert refused(home, B2D_MEMORY="lots").message == "B2D_MEMORY: memory cannot be 'lots'"
    with pytest.raises(ConfigError, match=r"^--cpus: cpus cannot be -1$"):
        loader.load(home, {}, {"cpus": -1})


@pytest.mark.parametrize("value", ["", "127.0.0.1", "127.0.59.200"])
def test_only_loopback_addresses_are_valid(home: Home, value: str) -> None:
    assert setting(home, "address", value) == value


def test_a_byte_order_mark_is_ignored(home: Home) -> None:
    write_config(home, b"\xef\xbb\xbfmemory = 1000\r\n")
    assert loader.load(home, {}, {}).settings.memory == 1000


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"vm = 'b\xff'", "is not UTF-8: byte 7"),
        ("memory = 1000".encode("utf-16"), "is not UTF-8: byte 0"),
        (b"memory: 1000", "is not valid TOML"),
        (b"memory = 1000\nmemory = 2000", "is not valid TOML"),
        (b"\0", "is not valid TOML"),
    ],
)
def test_an_unreadable_settings_file_is_reported(home: Home, content: bytes, reason: str) -> None:
    message = refused(write_config(home, content)).message
    assert message.startswith(f"{home.config} {reason}")


def test_a_settings_file_that_is_a_folder_is_reported(home: Home) -> None:
    home.config.mkdir()
    assert refused(home).message == f"{home.config} cannot be read: it is a folder, not a file"


@given(key=RANGED, number=st.integers(-(2**40), 2**40))
def test_a_number_is_accepted_or_refused_alike_from_every_source(
    tmp_path_factory: pytest.TempPathFactory, key: str, number: int
) -> None:
    new_home = Home(tmp_path_factory.getbasetemp())
    low, high = loader.RANGES[key]
    results = []
    for environ, flags, line in (({f"B2D_{key.upper()}": str(number)}, {}, ""), ({}, {key: number}, ""), ({}, {}, key)):
        write_config(new_home, f"{line} = {number}" if line else "")
        try:
            results.append(getattr(loader.load(new_home, environ, flags).settings, key))
        except ConfigError:
            results.append(None)
    assert results == [number if low <= number <= high else None] * 3


@given(st.text())
def test_any_text_is_converted_or_refused_as_number_and_boolean(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    new_home = Home(tmp_path_factory.getbasetemp() / "none")
    for key, kind in (("memory", int), ("tls", bool)):
        try:
            assert type(setting(new_home, key, text)) is kind
        except ConfigError as error:
            assert repr(text) in error.message


@pytest.mark.parametrize("value", [True, "1", "yes", "TRUE", "On"])
def test_true_has_several_spellings(home: Home, value: object) -> None:
    assert setting(home, "restrict", value) is True


@pytest.mark.parametrize("value", [False, "0", "no", "False", "OFF"])
def test_false_has_several_spellings(home: Home, value: object) -> None:
    assert setting(home, "tls", value) is False


def test_the_variable_selects_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert loader.resolve_home({}).root == tmp_path / ".b2d"
    assert loader.resolve_home({"B2D_HOME": ""}).root == tmp_path / ".b2d"
    assert loader.resolve_home({"B2D_HOME": "~/else"}).root == tmp_path / "else"
    assert loader.resolve_home({"B2D_HOME": "here"}).root == tmp_path / "here"


def test_a_home_of_an_unknown_user_is_reported() -> None:
    with pytest.raises(ConfigError) as caught:
        loader.resolve_home({"B2D_HOME": "~no-such-user-here/b2d"})
    assert "B2D_HOME" in caught.value.hint


@pytest.mark.parametrize(
    ("line", "shared"),
    [
        ('share = ["~/src", "/data:ro"]', ("~/src", "/data:ro")),
        ("share = []", ()),
        ('share = "none"', ()),
        ('share = "/one,/two"', ("/one", "/two")),
    ],
)
def test_folders_are_a_list(home: Home, line: str, shared: tuple[str, ...]) -> None:
    assert loader.load(write_config(home, line), {}, {}).settings.share == shared


def test_a_variable_has_commas_between_its_parts(home: Home) -> None:
    assert loader.load(home, {"B2D_SHARE": "~,/data:ro"}, {}).settings.share == ("~", "/data:ro")
    assert loader.load(home, {"B2D_SHARE": "none"}, {}).settings.share == ()


@pytest.mark.parametrize("line", ["share = 7", "share = [7]", "share = true"])
def test_an_invalid_list_of_folders_is_refused(home: Home, line: str) -> None:
    assert "a list of strings" in refused(write_config(home, line)).hint
