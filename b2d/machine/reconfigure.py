"""The verb set: what a machine was made with is changed, and its data never: a disk only grows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from b2d.config import loader
from b2d.drivers.base import Driver, GrowsDisk
from b2d.errors import B2dError, ConfigError
from b2d.guest import share_policy
from b2d.machine import preconditions
from b2d.machine_store.store import MachineStore
from b2d.models import MachineSpec, MachineState

FIELDS = {
    "memory": "memory_mib",
    "cpus": "cpus",
    "disk": "disk_mib",
    "ssh_port": "ssh_port",
    "docker_port": "docker_port",
    "share": "share",
}


@dataclass(frozen=True, slots=True)
class Change:
    """One setting of the machine."""

    key: str
    before: object
    after: object


@dataclass(frozen=True, slots=True)
class Changes:
    """What is otherwise now, and how the machine is: what runs, or was saved, goes on as it was."""

    made: list[Change]
    state: MachineState


def requested_changes(said: Mapping[str, object]) -> dict[str, Any]:
    """What can be changed, as settings have it. Raises ConfigError for what cannot be."""
    found = {}
    for key, value in said.items():
        if key not in FIELDS:
            raise ConfigError(f"{key} of a machine stays as it was made with", hint=f"one of {', '.join(FIELDS)}")
        found[key] = loader.parse_value(loader.RawSetting("", key, value, key))
        if key == "share":
            found[key] = share_policy.words(found[key]) or (loader.NOTHING,)
    return found


def apply_changes(
    store: MachineStore, driver: Callable[[MachineSpec], Driver], name: str, wanted: Mapping[str, Any]
) -> Changes:
    """Keep it in the spec, all or nothing; folders change at the next boot.

    Raises ConfigError for a smaller disk and a folder that is never shared, InvalidStateError for a disk that is in
    use.
    """
    share_policy.check(wanted.get("share", ()), store.home.root)
    with store.lock(name, "set"):
        spec = preconditions.require_spec(store.read(name), name)
        fields: dict[str, Any] = {FIELDS[key]: value for key, value in wanted.items()}
        changed = replace(spec, **fields)
        if changed.ssh_port == changed.docker_port:
            raise ConfigError(f"SSH and Docker cannot both have port {changed.ssh_port}", hint="give two")
        asked = driver(spec)
        state = asked.state()
        if "disk" in wanted:
            _grow(asked, spec, changed.disk_mib)
        made = [
            Change(key, getattr(spec, field), getattr(changed, field))
            for key, field in FIELDS.items()
            if getattr(spec, field) != getattr(changed, field)
        ]
        if made:
            store.write(changed)
        return Changes(made, state)


def _grow(driver: Driver, spec: MachineSpec, size_mib: int) -> None:
    if not isinstance(driver, GrowsDisk):
        if size_mib != spec.disk_mib:
            raise B2dError(f"b2d cannot make a disk of {spec.driver} larger yet", hint="b2d info")
        return
    there = driver.disk_mib()
    if size_mib < there:
        raise ConfigError(
            f"the disk of {spec.name} has {there} MiB, and is never made smaller: data could be lost",
            hint=f"disk={there}, or more",
        )
    if size_mib > there:
        driver.grow_disk(size_mib)
