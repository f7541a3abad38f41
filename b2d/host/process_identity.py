"""Who a process is: a pid is given to another one sooner or later, its start time with the boot is not."""

from pathlib import Path

from b2d.models import ProcessIdentity

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
MOST = 1 << 31  # a pid is smaller


def identify(pid: int) -> ProcessIdentity | None:
    """The identity of a live process, or None when there is none of that pid (a zombie has ended)."""
    if BOOT_ID.exists():
        return _from_proc(pid)
    return _from_psutil(pid)


def from_json(kept: object) -> ProcessIdentity:
    """Return the identity that a file of b2d's holds. Raises ValueError for anything else."""
    if not isinstance(kept, dict) or kept.keys() != {"pid", "start_time", "boot_id"}:
        raise ValueError("it is no process")
    pid, start_time, boot_id = kept["pid"], kept["start_time"], kept["boot_id"]
    if type(pid) is not int or not 0 < pid < MOST or not isinstance(start_time, str) or not isinstance(boot_id, str):
        raise ValueError("it is no process")
    return ProcessIdentity(pid, start_time, boot_id)


def is_alive(identity: ProcessIdentity) -> bool:
    """True when that very process still runs."""
    return identify(identity.pid) == identity


def _from_proc(pid: int) -> ProcessIdentity | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        boot_id = BOOT_ID.read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # the second field, the program's name, may hold spaces and parentheses: count from its last ")"
    fields = stat.rpartition(")")[2].split()
    state, threads, start_time = fields[0], int(fields[17]), fields[19]  # proc(5): fields 3, 20 and 22
    # a killed process is a zombie at once, but its other threads hold its files and ports a little longer
    ended = state == "X" or (state == "Z" and threads <= 1)
    return None if ended else ProcessIdentity(pid, start_time, boot_id)


def _from_psutil(pid: int) -> ProcessIdentity | None:
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return None
        # a time of day, so that it tells one boot from another too; the time of the boot moves with the clock there
        return ProcessIdentity(pid, f"{process.create_time():.2f}", "")
    except psutil.Error:
        return None
