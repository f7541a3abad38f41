"""Restore a machine whose spec is lost or corrupt, or remove all of it."""

from b2d.drivers import hypervisors
from b2d.errors import B2dError, ConfigError
from b2d.host.files import is_regular
from b2d.machine_names import command_for
from b2d.machine_store.spec_json import CorruptSpecError
from b2d.machine_store.store import MachineStore
from b2d.models import MachineSpec
from b2d.paths import MachinePaths
from b2d.reporting.base import Reporter


def restore_spec(store: MachineStore, name: str, reporter: Reporter) -> bool:
    """Restore a spec from its copy, or move it away for a new one; return False when there was nothing to restore.

    Raises B2dError for a spec of a newer b2d, or one that cannot be read: neither is corrupt.
    """
    _refuse_link(store.home.machine(name))
    try:
        if store.read(name) is not None:
            return False
        copy, message = store.read_copy(name), f"the description of {name} is missing"
        if copy is None or not hypervisors.with_traces(store.home.machine(name)):
            return False
    except CorruptSpecError as error:
        copy = error.moved or store.read_copy(name)
        message = f"{error.message}; it was renamed to {store.put_aside(name).name}"
    if copy is None:
        reporter.warn(f"{message}; {name} gets a new description from the settings, and its disk is unchanged")
        return False
    store.write(copy._replace(name=name))
    reporter.warn(f"{message}: {name} uses the last copy of its description")
    return True


def specs_for_removal(store: MachineStore, name: str) -> list[MachineSpec]:
    """Return the specs by which hypervisors remove the machine: its own, or one for each hypervisor that left files."""
    try:
        spec = store.read(name) or store.read_copy(name)
    except ConfigError:  # it belongs to a machine whose name differs only in case
        raise
    except B2dError:
        spec = store.read_copy(name)
    if spec is not None:
        return [spec._replace(name=name)]
    if store.home.machine(name).folder.is_symlink():
        return []  # nothing says whose files are behind it
    unknown = MachineSpec(name, "", "", "", memory_mib=0, cpus=0, disk_mib=0, address="", ssh_port=0, docker_port=0)
    return [unknown._replace(driver=driver) for driver in hypervisors.with_traces(store.home.machine(name))]


def _refuse_link(paths: MachinePaths) -> None:
    """Raise B2dError if keys and a disk would be created behind a link that does not lead to a machine."""
    if paths.folder.is_symlink() and not is_regular(paths.spec):
        hint = f"{command_for('delete', paths.folder.name)}, which removes the link"
        raise B2dError(f"{paths.folder} is a symbolic link that does not lead to a machine", hint=hint)
