"""Restore a machine whose spec is lost or corrupt, or remove it whole."""

from dataclasses import replace

from b2d.drivers import hypervisors
from b2d.errors import B2dError, ConfigError
from b2d.host.files import is_regular
from b2d.machine_store.spec_json import CorruptSpecError
from b2d.machine_store.store import MachineStore
from b2d.models import MachineSpec
from b2d.paths import MachinePaths
from b2d.reporting.base import Reporter


def restore_spec(store: MachineStore, name: str, reporter: Reporter) -> bool:
    """Restore a spec from its copy, or make room for a new one; False when there was nothing to restore.

    What was written by a newer b2d, or cannot be looked at, is not broken. Raises B2dError then.
    """
    _refuse_link(store.home.machine(name))
    try:
        if store.read(name) is not None:
            return False
        copy, message = store.read_copy(name), f"the description of {name} is gone"
        if copy is None or not hypervisors.with_traces(store.home.machine(name)):
            return False
    except CorruptSpecError as error:
        copy = error.moved or store.read_copy(name)
        message = f"{error.message}; it is {store.put_aside(name).name} now"
    if copy is None:
        reporter.warn(f"{message}, {name} is described anew as the settings say, and its disk stays as it is")
        return False
    store.write(replace(copy, name=name))
    reporter.warn(f"{message}: {name} goes on as it was described last")
    return True


def specs_for_removal(store: MachineStore, name: str) -> list[MachineSpec]:
    """Return the specs by which hypervisors remove the machine: its own, or one for each that left traces."""
    try:
        spec = store.read(name) or store.read_copy(name)
    except ConfigError:  # it is another's, whose name is the same but for the case
        raise
    except B2dError:
        spec = store.read_copy(name)
    if spec is not None:
        return [replace(spec, name=name)]
    if store.home.machine(name).folder.is_symlink():
        return []  # whose files are behind it, nothing tells
    unknown = MachineSpec(name, "", "", "", memory_mib=0, cpus=0, disk_mib=0, address="", ssh_port=0, docker_port=0)
    return [replace(unknown, driver=driver) for driver in hypervisors.with_traces(store.home.machine(name))]


def _refuse_link(paths: MachinePaths) -> None:
    """Raise B2dError where keys and a disk would be created behind a link that leads to no machine."""
    if paths.folder.is_symlink() and not is_regular(paths.spec):
        hint = f"b2d delete --vm {paths.folder.name}, which removes the link"
        raise B2dError(f"{paths.folder} is a link to something that is no machine", hint=hint)
