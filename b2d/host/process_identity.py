"""The identity of a process: a pid is reused, its start time within a boot is not."""

from pathlib import Path

from b2d.models import ProcessIdentity

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
PID_LIMIT = 1 << 31  # pids are smaller


def identify(pid: int) -> ProcessIdentity | None:
    """Return the identity of a live process, None where there is none (a zombie has ended)."""
    if BOOT_ID.exists():
        return _from_proc(pid)
    return _from_psutil(pid)


def from_json(value: object) -> ProcessIdentity:
    """Return the identity in a JSON value. Raises ValueError for anything else."""
    if not isinstance(value, dict) or value.keys() != {"pid", "start_time", "boot_id"}:
        raise ValueError("it is not a process")
    pid, start_time, boot_id = value["pid"], value["start_time"], value["boot_id"]
    if (
        type(pid) is not int
        or not 0 < pid < PID_LIMIT
        or not isinstance(start_time, str)
        or not isinstance(boot_id, str)
    ):
        raise ValueError("it is not a process")
    return ProcessIdentity(pid, start_time, boot_id)


def is_alive(identity: ProcessIdentity) -> bool:
    """Return whether that very process still runs."""
    return identify(identity.pid) == identity


def _from_proc(pid: int) -> ProcessIdentity | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        boot_id = BOOT_ID.read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # the program's name, the second field, may contain spaces and parentheses: count from the last ")"
    fields = stat.rpartition(")")[2].split()
    state, threads, start_time = fields[0], int(fields[17]), fields[19]  # proc(5): fields 3, 20 and 22
    # a killed process becomes a zombie at once, but other threads hold its files and ports a little longer
    has_ended = state == "X" or (state == "Z" and threads <= 1)
    return None if has_ended else ProcessIdentity(pid, start_time, boot_id)


def _from_psutil(pid: int) -> ProcessIdentity | None:
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return None
        # a time of day distinguishes boots too; the time of the boot moves with the clock there
        return ProcessIdentity(pid, f"{process.create_time():.2f}", "")
    except psutil.Error:
        return None
