"""The names of b2d's own files in a machine's folder, which are all that `delete` removes."""

from b2d.host.file_removal import OwnNames

WHOLE = (
    *("machine.json", "machine.json.copy", "machine.json.broken", "env", "origin", "autostart.xml"),
    *("id_ed25519", "id_ed25519.pub", "host_ed25519", "known_hosts", "pinned_host_key.pub", "seed.img", "screen.png"),
    *("companion.json", "companion.log", "agent.json", "docker.sock", "docker.sock.new"),
    *("disk.qcow2", "disk.vdi", "template.qcow2", "saved.json", "folders.taken"),
    *("qemu.pid", "qemu.json", "qemu.log", "qemu.log.1", "serial.log", "serial.log.1", "qmp.sock", "line.sock"),
    *("virtiofsd.sock", "virtiofsd.sock.new", "virtiofsd.log", "virtiofsd.log.1", "companion.log.1"),
)
DRAFTS_OF_DISKS = (
    *(".disk.qcow2.start", ".disk.*.unfinished", ".disk.*.unfinished.vdi"),
    *(".template.qcow2.start", ".template.qcow2.unfinished"),
)
PEM = ("ca.pem", "ca-key.pem", "cert.pem", "key.pem", "server.pem", "server-key.pem")


def _with_drafts(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names, and those of temporary files in writing (files.write_atomic)."""
    return (*names, *(f".{name}.????????" for name in names))


VIRTUALBOX = OwnNames(
    (*_with_drafts(("machine.vbox", "seed.iso")), "machine.vbox-prev", "machine.vbox-tmp", "machine*.nvram"),
    {
        "Logs": OwnNames(("VBox*.log*",)),  # VBox.log.1, VBoxHardening.log, VBoxUI.log
        "Snapshots": OwnNames(("*.sav", "*.vdi")),
    },
)
MACHINE = OwnNames(
    (*_with_drafts(WHOLE), *DRAFTS_OF_DISKS),
    {
        "certs": OwnNames(_with_drafts(PEM)),
        "authority": OwnNames(_with_drafts(PEM)),
        "nothing": OwnNames(),
        "virtualbox": VIRTUALBOX,
        ".screen-????????": OwnNames(("screen.png",)),
        ".begin-????????": OwnNames(("begin",)),
    },
)
