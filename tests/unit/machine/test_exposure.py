"""Each exposure of a machine is reported in one sentence, and nothing without any."""

import socket
from dataclasses import replace

import pytest

from b2d.drivers.base import Driver
from b2d.machine.exposure import Environment, Exposure, Severity, find_exposures
from b2d.models import HARDWARE, Access, MachineSpec
from tests.support.fakes import FakeDriver, a_spec

PASSWORD = Access(ssh_password=True)
OWN = Access(ssh_password=True, password="mine")
LEADS = "VirtualBox itself forwards 127.0.59.103:2022 to the SSH server of box"
BUSY = f"{LEADS}: every user of this host can connect, but needs the machine's key to log in"


class Dialing(FakeDriver):
    """A driver as QEMU's: no forward leads to the guest's SSH server."""

    def dial(self, port: int, timeout_s: float) -> socket.socket:
        raise OSError


def of(driver: str, **changes: object) -> MachineSpec:
    return a_spec("box", driver=driver, **{"hardware": HARDWARE, **changes})


def exposures(spec: MachineSpec, access: Access | None = None, **facts: object) -> list[Exposure]:
    driver: Driver = Dialing(spec) if spec.driver == "qemu" else FakeDriver(spec)
    around = Environment(driver, access or Access(), platform="linux")
    return find_exposures(spec, replace(around, **facts))  # type: ignore[arg-type]


@pytest.mark.parametrize("tls", [True, False])
@pytest.mark.parametrize("folders", [(), ("/data",)])
def test_qemu_machines_on_linux_have_no_exposure(tls: bool, folders: tuple[str, ...]) -> None:
    assert exposures(of("qemu", tls=tls, folders=folders)) == []


@pytest.mark.parametrize("tls", [True, False])
def test_virtualbox_exposes_ssh_to_all_users_and_docker_to_its_owner(tls: bool) -> None:
    assert exposures(of("virtualbox", tls=tls)) == [Exposure(BUSY, Severity.KNOWN)]


@pytest.mark.parametrize(
    ("driver", "access", "weight", "sentence", "remedy"),
    [
        (
            "virtualbox",
            PASSWORD,
            Severity.SERIOUS,
            f"{LEADS}, which accepts the well-known password tcuser: every user of this host can log in",
            "b2d config set password",
        ),
        (
            "virtualbox",
            OWN,
            Severity.SERIOUS,
            f"{LEADS}, which also accepts docker's password: every user of this host can try passwords",
            "b2d config set ssh_password=no",
        ),
        (
            "qemu",
            PASSWORD,
            Severity.KNOWN,
            "the SSH server of box also accepts the well-known password tcuser, but only from your own programs",
            "b2d config set password",
        ),
        (
            "qemu",
            OWN,
            Severity.ASKED,
            "the SSH server of box also accepts docker's password, but only from your own programs",
            "b2d config set ssh_password=no",
        ),
    ],
)
def test_an_ssh_password_is_reported_in_one_sentence_for_every_driver(
    driver: str, access: Access, weight: Severity, sentence: str, remedy: str
) -> None:
    assert exposures(of(driver), access) == [Exposure(sentence, weight, remedy)]
    then = f"{remedy} && b2d restart --vm box"  # the running machine has it until it boots again
    assert [exposure.line for exposure in exposures(of(driver), access, booted=True)] == [f"{sentence}; try: {then}"]


def test_a_machine_saved_by_an_older_b2d_is_exposed_until_it_boots() -> None:
    listed = exposures(of("qemu", hardware=1, tls=False), booted=True)
    assert [(exposure.message, exposure.weight, exposure.remedy) for exposure in listed] == [
        (
            "box was resumed as an older b2d saved it: every user of this host can use its Docker",
            Severity.SERIOUS,
            "b2d restart --vm box",
        ),
        (BUSY.replace("VirtualBox", "QEMU"), Severity.KNOWN, "b2d restart --vm box"),
    ]


@pytest.mark.parametrize(
    ("driver", "tls", "places"),
    [
        ("qemu", True, "SSH at 127.0.59.103:2022"),
        ("qemu", False, "SSH at 127.0.59.103:2022 and Docker at 127.0.59.103:2376"),
        ("virtualbox", False, "Docker at 127.0.59.103:2376"),
        ("virtualbox", True, ""),
    ],
)
def test_where_peers_cannot_be_identified_the_ports_of_the_agent_refuse_all_connections(
    driver: str, tls: bool, places: str
) -> None:
    listed = [
        exposure
        for exposure in exposures(of(driver, tls=tls), tells_users=lambda: False)
        if exposure.weight == Severity.SERIOUS
    ]
    sentence = f"this host does not report who connects: {places} of box refuse all connections"
    assert [exposure.message for exposure in listed] == [f"{sentence}, while b2d ssh and docker.sock work"] * bool(
        places
    )


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_untested_platforms_are_reported(platform: str) -> None:
    listed = exposures(of("virtualbox", tls=False), platform=platform)
    assert [exposure.message for exposure in listed] == [
        "access to Docker without TLS at 127.0.59.103:2376 of box is decided with psutil, which is not tested on "
        + platform,
        BUSY,
    ]
    assert exposures(of("qemu"), platform=platform) == []


@pytest.mark.parametrize(
    ("driver", "platform", "folders", "expected"),
    [
        ("virtualbox", "linux", ("/data",), True),
        ("virtualbox", "linux", ("/data:ro",), False),
        ("qemu", "darwin", ("/data", "/x:ro"), True),
        ("qemu", "linux", ("/data",), False),
    ],
)
def test_setuid_files_in_shared_folders_are_reported(
    driver: str, platform: str, folders: tuple[str, ...], expected: bool
) -> None:
    messages = [exposure.message for exposure in exposures(of(driver, folders=folders), platform=platform)]
    sentence = "this host does not block setuid files that containers create in the shared folders of box"
    assert (sentence in messages) == expected


@pytest.mark.parametrize(
    ("driver", "restrict", "expected"), [("qemu", False, True), ("qemu", True, False), ("virtualbox", False, False)]
)
def test_host_loopback_no_is_reported_where_only_the_guest_enforces_it(
    driver: str, restrict: bool, expected: bool
) -> None:
    messages = [exposure.message for exposure in exposures(of(driver, restrict=restrict), Access(host_loopback=False))]
    sentence = "host_loopback=no is enforced by the firewall in box, which root in the guest can change"
    sentence += " and which raw frames of containers with --network host bypass"
    assert (sentence in messages) == expected


def test_the_most_severe_exposure_comes_first() -> None:
    listed = exposures(of("virtualbox", tls=False, folders=("/data",)), PASSWORD, platform="darwin")
    assert [exposure.weight for exposure in listed] == [Severity.SERIOUS, Severity.KNOWN, Severity.KNOWN]


def test_commands_for_the_default_machine_omit_its_name() -> None:
    spec = a_spec(driver="qemu", hardware=HARDWARE)
    assert [exposure.remedy for exposure in exposures(spec, PASSWORD, booted=True)] == [
        "b2d config set password && b2d restart"
    ]


@pytest.mark.parametrize(("driver", "weight"), [("virtualbox", Severity.SERIOUS), ("qemu", Severity.KNOWN)])
def test_a_guest_that_reads_no_settings_always_accepts_the_password_of_2014(driver: str, weight: Severity) -> None:
    (exposure,) = exposures(of(driver), foreign=True)
    assert (exposure.weight, exposure.remedy) == (weight, "")
    assert "the well-known password tcuser" in exposure.message
