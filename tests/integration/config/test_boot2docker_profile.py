"""boot2docker's profile and flags: settings that still mean something take effect, others are reported."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2d.config import boot2docker_profile, loader
from b2d.config.settings import Settings
from b2d.errors import ConfigError
from b2d.paths import Home
from tests.support.cli import Prompt
from tests.support.paths import ROOT

# the keys of boot2docker 1.8, and the flags that no profile had
THE_KEYS = (
    "Init Verbose Driver Clobber ForceUpgradeDownload SSH SSHGen SSHKey VM Dir ISOURL ISO DiskSize Memory CPUs SSHPort "
    "DockerPort HostIP NetMask DHCPEnabled DHCPIP LowerIP UpperIP Serial SerialFile Waittime Retries"
)
THE_FLAGS = (
    "--verbose --driver --clobber --force-upgrade-download --ssh --ssh-keygen --sshkey --vm --iso-url --iso --disksize "
    "--memory --cpus --sshport --dockerport --hostip --netmask --dhcp --dhcpip --lowerip --upperip --serial "
    "--serialfile --waittime --retries --vbm --basevmdk --vbox-share --no-dummy --dir"
)
KEYS, FLAGS = THE_KEYS.split(), THE_FLAGS.split()
SWITCHES = ("--verbose", "--clobber", "--force-upgrade-download", "--dhcp", "--serial")
VALUES = {"--driver": "auto", "--cpus": "2"} | dict.fromkeys(
    ("--disksize", "--memory", "--sshport", "--dockerport", "--waittime", "--retries"), "1000"
)
UNASKED = """\
# boot2docker profile filename: {0}/profile
Init = false
Verbose = false
Driver = "virtualbox"
Clobber = true
ForceUpgradeDownload = false
SSH = "ssh"
SSHGen = "ssh-keygen"
SSHKey = "/home/x/.ssh/id_boot2docker"
VM = "boot2docker-vm"
Dir = "{0}"
ISOURL = "https://api.github.com/repos/boot2docker/boot2docker/releases"
ISO = "{0}/boot2docker.iso"
DiskSize = 20000
Memory = 2048
CPUs = 8
SSHPort = 2022
DockerPort = 0
HostIP = "192.168.59.3"
DHCPIP = "192.168.59.99"
NetMask = [255, 255, 255, 0]
LowerIP = "192.168.59.103"
UpperIP = "192.168.59.254"
DHCPEnabled = true
Serial = false
SerialFile = "{0}/boot2docker-vm.sock"
Waittime = 300
Retries = 75
"""


@pytest.fixture
def prompt(tmp_path: Path) -> Prompt:
    """Return the prompt of a new user."""
    return Prompt(tmp_path)


def load(folder: Path, profile: str, **flags: object) -> loader.ResolvedSettings:
    """Load the settings of a user with that profile and no config.toml."""
    (folder / "profile").write_text(profile)
    return loader.load(Home(folder / "none"), {"BOOT2DOCKER_DIR": str(folder)}, flags)


def setting(folder: Path, profile: str, key: str) -> Any:
    return getattr(load(folder, profile).settings, key)


def test_the_default_profile_of_boot2docker_changes_next_to_nothing(tmp_path: Path) -> None:
    effective = load(tmp_path, UNASKED.format(tmp_path))
    assert effective.settings == Settings(cpus=8)
    assert effective.remarks == []


@pytest.mark.parametrize(
    ("profile", "key", "value"),
    [
        ('VM = "dev"', "vm", "dev"),
        ("Memory = 4096", "memory", 4096),
        ("memory = 4096", "memory", 4096),
        ("CPUS = 3", "cpus", 3),
        ("DiskSize = 40000", "disk", 40000),
        ("SSHPort = 2023", "ssh_port", 2023),
        ("DockerPort = 2375", "docker_port", 2375),
        ("DockerPort = 0", "docker_port", 2376),
        ('Driver = "virtualbox"', "driver", "auto"),
        ('Driver = "qemu"', "driver", "qemu"),
        ('ISO = "/images/mine.iso"', "image", "/images/mine.iso"),
        ('ISOURL = "https://ghe.example/a.iso"', "image", "https://ghe.example/a.iso"),
        ("Waittime = 1000\nRetries = 600", "wait", 600),
        ("Retries = 3001", "wait", 901),
        ("Waittime = 10", "wait", 300),
    ],
)
def test_a_key_of_2014_becomes_the_setting_of_today(tmp_path: Path, profile: str, key: str, value: object) -> None:
    effective = load(tmp_path, profile)
    assert getattr(effective.settings, key) == value
    assert effective.remarks == []
    from_profile = value != getattr(Settings(), key) or profile.startswith("Waittime")
    assert effective.origins[key] == (str(tmp_path / "profile") if from_profile else "default")


def test_a_missing_iso_is_replaced_by_the_isourl_of_the_profile(tmp_path: Path) -> None:
    iso = tmp_path / "mine.iso"
    profile = f'ISO = "{iso}"\nISOURL = "https://ghe.example/a.iso"'
    assert setting(tmp_path, profile, "image") == "https://ghe.example/a.iso"
    iso.touch()
    assert setting(tmp_path, profile, "image") == str(iso)


def test_every_key_of_2014_is_converted_or_has_a_reason() -> None:
    for key in KEYS:
        word = key.lower()
        assert (
            word in boot2docker_profile.SETTINGS
            or word in boot2docker_profile.REASONS
            or word in boot2docker_profile.IGNORED
        ), key
    assert {*boot2docker_profile.SETTINGS.values()} <= {*Settings._fields}


def test_every_key_and_flag_of_2014_is_documented() -> None:
    page = (ROOT / "docs" / "boot2docker.md").read_text()
    assert [word for word in (*KEYS, *FLAGS) if f"`{word}`" not in page] == []


def test_unsupported_keys_are_reported_in_one_line_and_do_not_fail(tmp_path: Path) -> None:
    profile = (
        'HostIP = "10.0.0.1"\nMemory = 1024\nNetMask = [255, 0, 0, 0]\nMemroy = 1\nSerial = true\n[Xyzzy]\na = 1\n'
    )
    effective = load(tmp_path, profile)
    assert effective.settings.memory == 1024
    (remark,) = effective.remarks
    assert remark.startswith(f"{tmp_path}/profile: ignored: HostIP, NetMask (there is no host-only network")
    assert "Memroy (unknown: did you mean memory?)" in remark
    assert "Serial (the console is always logged: b2d logs)" in remark
    assert remark.endswith("Xyzzy (unknown)")


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ("# mine\nMemory = 3\n", "2: Memory cannot be 3"),
        ('\n\nMemory = "lots"', "3: Memory cannot be 'lots'"),
        ("CPUs = -1", "1: CPUs cannot be -1"),
        ('Retries = 75\nWaittime = "long"', "2: Waittime cannot be 'long'"),
        ('VM = "x"\nDriver = "dummy"', "2: Driver cannot be 'dummy'"),
        ("VM = 3", "1: VM cannot be 3"),
    ],
)
def test_an_invalid_value_is_reported_with_its_line_and_old_name(tmp_path: Path, profile: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, profile)
    assert caught.value.message == f"{tmp_path}/profile:{message}"
    assert caught.value.hint


def test_a_profile_in_the_format_before_toml_is_reported_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"profile is not valid TOML: .*line 2"):
        load(tmp_path, "# 0.8\nvm = boot2docker-vm\n")


def test_environment_and_flags_win_over_the_profile_and_config_toml_is_read_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "profile").write_text("Memory = 1000\nCPUs = 1\nDiskSize = 5000\n")
    known = {"BOOT2DOCKER_PROFILE": str(tmp_path / "profile"), "B2D_CPUS": "2"}
    settings = loader.load(Home(tmp_path), known, {"disk": 6000}).settings
    assert (settings.memory, settings.cpus, settings.disk) == (1000, 2, 6000)
    (tmp_path / "config.toml").write_text("")
    settings = loader.load(Home(tmp_path), known, {"disk": 6000}).settings
    assert (settings.memory, settings.cpus, settings.disk) == (2048, 2, 6000)


def test_the_profile_is_where_boot2docker_looked_for_it(tmp_path: Path) -> None:
    assert boot2docker_profile.profile_path({"HOME": "/h"}) == Path("/h/.boot2docker/profile")
    assert boot2docker_profile.profile_path({"USERPROFILE": "/h"}) == Path("/h/.boot2docker/profile")
    assert boot2docker_profile.profile_path({"HOME": "/h", "BOOT2DOCKER_DIR": "/d"}) == Path("/d/profile")
    assert boot2docker_profile.profile_path({"BOOT2DOCKER_DIR": "/d", "BOOT2DOCKER_PROFILE": "/p"}) == Path("/p")
    assert boot2docker_profile.profile_path({}) is None
    missing = {"BOOT2DOCKER_PROFILE": str(tmp_path / "none")}
    assert loader.load(Home(tmp_path), missing, {}) == loader.load(Home(tmp_path), {}, {})


def test_the_profile_is_never_written(prompt: Prompt) -> None:
    mine = prompt.folder / ".boot2docker" / "profile"
    mine.parent.mkdir()
    mine.write_text('VM = "dev"\nMemory = 1024\n')
    before = mine.stat()
    assert prompt.b2d("config", "memory").out == "1024\n"
    assert prompt.b2d("status", "--json").out.count('"dev"') == 1
    after = mine.stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)
    assert [path.name for path in mine.parent.iterdir()] == ["profile"]


def test_a_file_called_profile_in_the_current_folder_is_ignored(prompt: Prompt) -> None:
    (prompt.folder / "profile").write_text("export PATH=/bin\n")
    assert prompt.b2d("config", "memory") == Prompt(prompt.folder).b2d("config", "memory")
    assert prompt.b2d("config").err == ""


@pytest.mark.parametrize("flag", FLAGS)
def test_every_flag_of_2014_is_accepted_before_and_after_the_verb(prompt: Prompt, flag: str) -> None:
    value = () if flag in SWITCHES else (VALUES.get(flag, "x"),)
    before, after = prompt.b2d(flag, *value, "list"), prompt.b2d("list", flag, *value)
    assert (before.code, before.out) == (0, "")
    if flag not in ("--disksize", "--memory", "--cpus"):  # options of the verbs that create a machine
        assert after == before
    if value:
        assert prompt.b2d(f"{flag}={value[0]}", "list") == before


@pytest.mark.parametrize(
    ("typed", "key", "value"),
    [
        ("--sshport 2030", "ssh_port", "2030"),
        ("--dockerport=2375", "docker_port", "2375"),
        ("--dockerport 0", "docker_port", "2376"),
        ("--iso /a.iso", "image", "/a.iso"),
        ("--iso-url http://a/b.iso", "image", "http://a/b.iso"),
        (f"--iso-url {boot2docker_profile.RELEASES}", "image", "boot2docker"),
        ("--waittime 1000 --retries 900", "wait", "900"),
        ("--vbox-share disable", "share", "[]"),
        ("--vbox-share /Users=Users --vbox-share=/data", "share", '["/Users", "/data"]'),
    ],
)
def test_a_flag_of_2014_sets_the_setting_of_today(prompt: Prompt, typed: str, key: str, value: str) -> None:
    for result in (prompt.b2d(*typed.split(), "config", key), prompt.b2d("config", key, *typed.split())):
        assert (result.code, result.out, result.err) == (0, f"{value}\n", "")


def test_unsupported_flags_are_reported_in_one_line(prompt: Prompt) -> None:
    result = prompt.b2d("--hostip", "10.0.0.1", "--dhcp=false", "status", "--basevmdk=/a")
    assert (result.code, result.out) == (3, "absent\n")
    assert result.err == (
        "warning: ignored: --hostip, --dhcp (there is no host-only network to set up); "
        "--basevmdk (only `b2d init` can copy a disk)\n"
    )


def test_an_invalid_flag_of_2014_is_reported_by_its_name(prompt: Prompt) -> None:
    result = prompt.b2d("up", "--sshport=70000")
    assert (result.code, result.out) == (2, "")
    assert result.err == "b2d: --sshport: sshport cannot be '70000'\n     try: from 1 to 65535\n"


def test_dir_selects_the_home(prompt: Prompt) -> None:
    (prompt.folder / "else").mkdir()
    (prompt.folder / "else" / "config.toml").write_text("memory = 700\n")
    assert prompt.b2d("--dir", "else", "config", "memory").out == "700\n"


def test_arguments_after_ssh_belong_to_the_guest(prompt: Prompt) -> None:
    result = prompt.b2d("ssh", "server", "--dhcp=false", "--sshport=x")
    assert (result.code, result.err.count("\n")) == (255, 2)
    assert "ignored" not in result.err


@given(st.dictionaries(st.sampled_from(KEYS), st.one_of(st.booleans(), st.integers(), st.text(), st.just([1]))))
def test_every_profile_key_is_converted_or_reported(profile: dict[str, object]) -> None:
    """Each key becomes a setting, is reported as unsupported, or is a default."""
    options = boot2docker_profile.profile_settings(profile, Path("/nowhere"))
    unsupported = boot2docker_profile.unsupported_options(options)
    heeded = {word for word, key, _ in boot2docker_profile.convert_options(options) if key in Settings._fields}
    for word in options:
        assert word in heeded or word in unsupported or word in ("DockerPort", "ISO", "ISOURL"), word
