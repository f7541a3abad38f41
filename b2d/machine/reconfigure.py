"""Change the settings of an existing machine; its data is kept, and its disk only grows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from b2d.config import loader
from b2d.drivers.base import Driver
from b2d.errors import ConfigError
from b2d.guest import share_policy
from b2d.models import MachineSpec, MachineState

if TYPE_CHECKING:
    from b2d.machine.lifecycle import Machine

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
    """The changes that were made, and the machine's state: a running or saved machine continues as it was."""

    changes: list[Change]
    state: MachineState


def requested_changes(values: Mapping[str, object]) -> dict[str, Any]:
    """Return the changes by the names of settings. Raises ConfigError for a setting that cannot be changed."""
    changes = {}
    for key, value in values.items():
        if key not in FIELDS:
            raise ConfigError(f"{key} of an existing machine cannot be changed", hint=f"one of {', '.join(FIELDS)}")
        changes[key] = loader.parse_value(loader.RawSetting("", key, value, key))
        if key == "share":
            changes[key] = share_policy.words(changes[key]) or (loader.NOTHING,)
    return changes


def apply_changes(machine: "Machine", wanted: Mapping[str, Any]) -> Changes:
    """Store the changes in the spec, all or nothing; folders change at the next boot.

    Raises ConfigError for a smaller disk and a folder that is never shared, InvalidStateError for a disk that is in
    use.
    """
    store = machine.services.store
    share_policy.check(wanted.get("share", ()), store.home.root)
    with machine.lock("set"):
        spec = machine.spec()
        fields: dict[str, Any] = {FIELDS[key]: value for key, value in wanted.items()}
        changed = spec._replace(**fields)
        if changed.ssh_port == changed.docker_port:
            raise ConfigError(f"SSH and Docker cannot both have port {changed.ssh_port}", hint="give two")
        driver = machine.driver(spec)
        state = driver.state()
        if "disk" in wanted:
            _grow(driver, spec, changed.disk_mib)
        changes = [
            Change(key, getattr(spec, field), getattr(changed, field))
            for key, field in FIELDS.items()
            if getattr(spec, field) != getattr(changed, field)
        ]
        if changes:
            store.write(changed)
        return Changes(changes, state)


def _grow(driver: Driver, spec: MachineSpec, size_mib: int) -> None:
    current_mib = driver.disk_mib()
    if size_mib < current_mib:
        raise ConfigError(
            f"the disk of {spec.name} has {current_mib} MiB and cannot shrink: data could be lost",
            hint=f"disk={current_mib}, or more",
        )
    if size_mib > current_mib:
        driver.grow_disk(size_mib)
