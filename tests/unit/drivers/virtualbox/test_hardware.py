"""Hardware settings use the attributes of each API version, as recorded in api.toml."""

import tomllib
from pathlib import Path

import pytest

from b2d.drivers.virtualbox import hardware
from b2d.drivers.virtualbox.hardware import Assign, Call, Constant, Step, Version
from b2d.drivers.virtualbox.host_only_network import SecondCard
from tests.support.fakes import a_spec

LEADS_TO = {  # the types of these members in every version that has them
    "BIOSSettings": "IBIOSSettings",
    "firmwareSettings": "IFirmwareSettings",
    "platform": "IPlatform",
    "x86": "IPlatformX86",
    "audioAdapter": "IAudioAdapter",
    "audioSettings": "IAudioSettings",
    "adapter": "IAudioAdapter",
    "graphicsAdapter": "IGraphicsAdapter",
    "getNetworkAdapter": "INetworkAdapter",
    "NATEngine": "INATEngine",
    "getSerialPort": "ISerialPort",
    "getStorageControllerByName": "IStorageController",
}
VERSIONS: list[Version] = [(6, 1), (7, 0), (7, 1), (7, 2)]
Members = dict[str, set[str]]


def recorded(version: Version) -> Members:
    text = (Path(__file__).parent / "api.toml").read_text()
    whole = {name: {key: set(of.split()) for key, of in api.items()} for name, api in tomllib.loads(text).items()}
    if version >= (7, 1):
        return whole["7.2"]
    members = whole["6.1"]
    if version == (7, 0):  # changes found in VirtualBox's sources
        members["IMachine"] = members["IMachine"] - {"audioAdapter"} | {"audioSettings"}
        members["IAudioSettings"] = {"adapter"}
        members["INATEngine"] = members["INATEngine"] | {"localhostReachable"}
    return members


def steps(version: Version) -> list[Step]:
    spec = a_spec()
    return [
        *hardware.board(version),
        *hardware.drives(),
        *hardware.spec_settings(spec, "/serial.log"),
        *hardware.remove_forwards(["b2d-ssh"]),
        *hardware.forwards(spec),
        *hardware.control_port("/line.sock"),
        *hardware.host_loopback(version, True),
        *hardware.remove_shares(["b2d-0"]),
        hardware.add_share("b2d-0", "/home", writable=True),
        *SecondCard("hostOnlyInterface", "HostOnly", "vboxnet0").steps(),
    ]


def missing(members: Members, path: str) -> str:
    """Return the first missing part of a path, "" when the path exists."""
    interface = "IMachine"
    parts = [part.partition("(")[0] for part in path.split(".")]
    for part in parts:
        if part not in members[interface]:
            return f"{interface}.{part}"
        interface = LEADS_TO.get(part, "")
    return ""


@pytest.mark.parametrize("version", VERSIONS)
def test_every_attribute_that_is_set_exists_in_that_version(version: Version) -> None:
    members = recorded(version)
    assert [absent for step in steps(version) if (absent := missing(members, step.path))] == []


def test_moved_attributes_no_longer_exist_at_their_old_path() -> None:
    old = [step.path for step in steps((6, 1)) if missing(recorded((7, 2)), step.path)]
    assert {path.split(".")[0] for path in old} == {"RTCUseUTC", "BIOSSettings", "setCPUProperty", "audioAdapter"}


@pytest.mark.parametrize(("version", "count"), [((6, 1), 5), ((7, 0), 8), ((7, 1), 9), ((7, 2), 9)])
def test_a_machine_is_created_with_the_arguments_of_the_version(version: Version, count: int) -> None:
    arguments = hardware.create_arguments("one", "/one.vbox", version)
    assert len(arguments) == count
    assert arguments[:2] == ["/one.vbox", "one"]
    assert (Constant("PlatformArchitecture", "x86") in arguments) == (version >= (7, 1))


def test_a_newer_version_is_treated_as_the_newest_known() -> None:
    assert hardware.board((8, 0)) == hardware.board((7, 2))


def test_the_hardware_settings_follow_the_spec() -> None:
    spec = a_spec(memory_mib=777, cpus=3, address="127.0.59.7", ssh_port=22022, docker_port=22375, tls=False)
    given = {step.path: step.value for step in hardware.spec_settings(spec, "/log") if isinstance(step, Assign)}
    assert (given["memorySize"], given["CPUCount"], given["getSerialPort(0).path"]) == (777, 3, "/log")
    rules = [step.arguments for step in hardware.forwards(spec) if isinstance(step, Call)]
    tcp = Constant("NATProtocol", "TCP")
    assert rules == [
        ("b2d-ssh", tcp, "127.0.59.7", 22022, "", 22),
        ("b2d-docker", tcp, "127.0.59.7", 22375, "", 2375),
    ]


def test_by_default_the_machine_has_the_cpus_of_this_host() -> None:
    assert 1 <= hardware.cpus(a_spec(cpus=0)) <= hardware.MAX_CPUS
