"""QEMU's command line is the decided one, and names with QEMU's special characters are safe in it."""

from pathlib import Path

import pytest

from b2d.drivers.qemu.accelerator import Accelerator
from b2d.drivers.qemu.command_line import build_arguments, normalize_hardware
from b2d.models import Extent, Image, MachineSpec
from b2d.paths import MachinePaths
from tests.support.fakes import a_spec

TCG = Accelerator("tcg")
PATHS = MachinePaths(Path("/home/somebody/.b2d/machines/m"))
DIRECT = Image(
    sha256="1" * 64,
    system="2" * 64,
    iso=Path("/images/1.iso"),
    source="debian",
    version="26.1.5-6.12",
    size=1,
    kernel=Path("/images/1.vmlinux"),
    initrd=Path("/images/1.initrd"),
    kernel_arguments="console=tty0 console=ttyS0",
    root=Extent(4096, 8192),
)
FOREIGN = Image("2" * 64, Path("/images/2.iso"), "boot2docker", "19.03.12", 1)


def options(
    spec: MachineSpec | None = None,
    image: Image = DIRECT,
    paths: MachinePaths = PATHS,
    cpus: int = 1,
    accelerator: Accelerator = TCG,
) -> list[tuple[str, str]]:
    """Return the options with their values; one without a value has an empty one."""
    pairs: list[tuple[str, str]] = []
    for word in build_arguments(spec or a_spec(), image, paths, accelerator, cpus):
        if word.startswith("-") and (not pairs or pairs[-1][0] != "-append" or pairs[-1][1]):
            pairs.append((word, ""))
        else:
            pairs[-1] = (pairs[-1][0], word)
    return pairs


def values(name: str, given: list[tuple[str, str]]) -> list[str]:
    return [value for option, value in given if option == name]


def test_qemu_defaults_and_user_configuration_are_disabled() -> None:
    assert {("-nodefaults", ""), ("-no-user-config", "")} <= set(options())


def test_the_kernel_is_loaded_directly_and_finds_its_root_by_serial() -> None:
    given = options(accelerator=Accelerator("kvm"))
    assert values("-kernel", given) == ["/images/1.vmlinux"]
    assert values("-initrd", given) == ["/images/1.initrd"]
    assert values("-append", given) == ["console=tty0 console=ttyS0"]
    root = next(value for value in values("-blockdev", given) if "node-name=root," in value)
    assert "offset=4096,size=8192" in root
    assert "read-only=on" in root
    assert "virtio-blk-pci,drive=root,serial=b2d-root" in values("-device", given)


def test_an_emulated_kernel_computes_no_interrupt_routes() -> None:
    assert values("-append", options()) == ["console=tty0 console=ttyS0 acpi=noirq"]


def test_a_saved_state_does_not_depend_on_arguments_of_the_kernel_that_runs() -> None:
    older = build_arguments(a_spec(), DIRECT._replace(kernel_arguments="quiet"), PATHS, TCG, 1)
    now = build_arguments(a_spec(), DIRECT, PATHS, TCG, 1)
    assert older != now
    assert normalize_hardware(older) == normalize_hardware(now)
    assert normalize_hardware(now) != normalize_hardware(build_arguments(a_spec(), DIRECT, PATHS, TCG, 2))


def test_an_image_of_other_origin_boots_from_its_cd() -> None:
    given = options(image=FOREIGN)
    assert values("-kernel", given) == []
    assert values("-boot", given) == ["order=d"]
    assert "ide-cd,drive=iso" in values("-device", given)


@pytest.mark.parametrize("image", [DIRECT, FOREIGN], ids=["direct", "cd"])
def test_the_data_disk_is_the_first_that_the_guest_sees(image: Image) -> None:
    disks = [value for value in values("-device", options(image=image)) if value.startswith("virtio-blk")]
    assert "serial=b2d-data" in disks[0]
    assert "serial=b2d-seed" in disks[-1]


def test_no_option_disables_flushes_of_the_guest() -> None:
    assert not any("no-flush" in word or "cache" in word for pair in options() for word in pair)


def test_only_the_data_disk_can_be_written() -> None:
    writable = [value for value in values("-blockdev", options()) if "read-only=on" not in value]
    assert all(node in writable[place] for place, node in enumerate(["node-name=data-file", "node-name=data,"]))
    assert len(writable) == 2


def test_every_forward_listens_on_the_address_of_the_machine() -> None:
    (network,) = values("-netdev", options(a_spec(ssh_port=2022, docker_port=2376)))
    forwards = [option for option in network.split(",") if option.startswith("hostfwd=")]
    assert forwards == ["hostfwd=tcp:127.0.59.103:2022-:22", "hostfwd=tcp:127.0.59.103:2376-:2376"]


def test_without_tls_the_port_in_the_guest_is_2375() -> None:
    (network,) = values("-netdev", options(a_spec(docker_port=2999, tls=False)))
    assert "hostfwd=tcp:127.0.59.103:2999-:2375" in network


def test_a_restricted_machine_has_no_network_access() -> None:
    assert "restrict=on" in values("-netdev", options(a_spec(restrict=True)))[0]
    assert "restrict" not in values("-netdev", options())[0]


def test_idle_memory_is_returned_and_entropy_is_provided() -> None:
    devices = values("-device", options())
    assert "virtio-balloon-pci,free-page-reporting=on" in devices
    assert "virtio-rng-pci" in devices


def test_memory_and_cpus_are_those_requested() -> None:
    given = options(a_spec(memory_mib=1024), cpus=3)
    assert values("-m", given) == ["1024M"]
    assert values("-smp", given) == ["3"]


def test_a_comma_in_a_path_is_escaped() -> None:
    paths = MachinePaths(Path("/home/a,b/m"))
    image = DIRECT._replace(iso=Path("/images/one,two.iso"))
    given = options(image=image, paths=paths)
    everything = " ".join(values("-blockdev", given) + values("-chardev", given))
    assert "filename=/home/a,,b/m/disk.qcow2" in everything
    assert "filename=/images/one,,two.iso" in everything
    assert "path=/home/a,,b/m/qmp.sock" in everything
    assert "path=/home/a,,b/m/serial.log" in everything
    assert values("-pidfile", given) == ["/home/a,b/m/qemu.pid"]  # no option list, so unescaped


def test_the_same_machine_has_the_same_command_line() -> None:
    assert options() == options()


def test_the_root_is_read_from_the_uncompressed_iso() -> None:
    given = options(image=DIRECT._replace(stored=Path("/images/1.stored.iso")))
    assert "filename=/images/1.stored.iso" in next(v for v in values("-blockdev", given) if "node-name=root-file" in v)
