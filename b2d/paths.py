"""The paths of all files, as properties; this module reads and writes nothing."""

from pathlib import Path
from typing import NamedTuple

MACHINES = "machines"


class ImagePaths(NamedTuple):
    """The files of a stored image, images/<sha256>.* in the home."""

    folder: Path
    sha256: str

    @property
    def iso(self) -> Path:
        """The ISO."""
        return self.folder / f"{self.sha256}.iso"

    @property
    def facts(self) -> Path:
        """The image's description as JSON; written last, so an image without it is incomplete."""
        return self.folder / f"{self.sha256}.json"

    @property
    def kernel(self) -> Path:
        """The kernel, as an ELF vmlinux or a bzImage."""
        return self.folder / f"{self.sha256}.vmlinux"

    @property
    def initrd(self) -> Path:
        """The initial ramdisk."""
        return self.folder / f"{self.sha256}.initrd"

    @property
    def stored(self) -> Path:
        """The same ISO with nothing in it compressed."""
        return self.folder / f"{self.sha256}.stored.iso"

    @property
    def checked(self) -> Path:
        """The files' sizes and times when they were last hashed, so that unchanged ones are not hashed again."""
        return self.folder / f"{self.sha256}.checked"


class MachinePaths(NamedTuple):
    """The files of one machine: machines/<name>/*. docs/architecture.md says who writes which."""

    folder: Path

    @property
    def home(self) -> Path:
        """The $B2D_HOME of the folder, or the folder itself when it is elsewhere."""
        return self.folder.parent.parent if self.folder.parent.name == MACHINES else self.folder

    @property
    def spec(self) -> Path:
        """The machine's description, machine.json."""
        return self.folder / "machine.json"

    @property
    def spec_copy(self) -> Path:
        """A copy of machine.json, from which a damaged one is restored."""
        return self.folder / "machine.json.copy"

    @property
    def spec_broken(self) -> Path:
        """A machine.json that could not be read, moved aside."""
        return self.folder / "machine.json.broken"

    @property
    def lock(self) -> Path:
        """The machine's lock, beside its folder, as delete removes the folder."""
        return self.folder.parent / f".{self.folder.name}.lock"

    @property
    def holder(self) -> Path:
        """The lock's holder: pid and verb. Beside the lock, since some lock libraries empty the lock file."""
        return self.folder.parent / f".{self.folder.name}.holder"

    @property
    def env(self) -> Path:
        """The running machine's key=value lines; written last by up, removed first by whatever ends the machine."""
        return self.folder / "env"

    @property
    def agent_process(self) -> Path:
        """The identities of the machine's agent process and of the machine's process that it serves."""
        return self.folder / "companion.json"

    @property
    def agent_log(self) -> Path:
        """The agent's stderr, which should be empty."""
        return self.folder / "companion.log"

    @property
    def agent_report(self) -> Path:
        """The agent's report: what it serves, and what it could not open."""
        return self.folder / "agent.json"

    @property
    def agent_lock(self) -> Path:
        """The lock that makes the agent unique."""
        return self.folder.parent / f".{self.folder.name}.companion.lock"

    @property
    def docker_socket(self) -> Path:
        """The socket of the machine's Docker, which the agent serves while the machine runs."""
        return self.folder / "docker.sock"

    @property
    def ssh_key(self) -> Path:
        """The private key of the user for the guest."""
        return self.folder / "id_ed25519"

    @property
    def ssh_public_key(self) -> Path:
        """The public key of the user for the guest."""
        return self.folder / "id_ed25519.pub"

    @property
    def host_key(self) -> Path:
        """The guest's private host key, created on this host, so that it is known before the first connection."""
        return self.folder / "host_ed25519"

    @property
    def pinned_host_key(self) -> Path:
        """The public host key of a guest that makes its own, recorded at the first login to it."""
        return self.folder / "pinned_host_key.pub"

    @property
    def known_hosts(self) -> Path:
        """The guest's public host keys, for OpenSSH."""
        return self.folder / "known_hosts"

    @property
    def certs(self) -> Path:
        """The folder for docker clients (DOCKER_CERT_PATH): ca.pem, cert.pem, key.pem."""
        return self.folder / "certs"

    @property
    def authority(self) -> Path:
        """The folder of what no client needs: ca-key.pem, server.pem, server-key.pem."""
        return self.folder / "authority"

    @property
    def seed(self) -> Path:
        """The small read-only disk with the guest's identity and settings."""
        return self.folder / "seed.img"

    @property
    def disk_qcow2(self) -> Path:
        """The data disk of QEMU."""
        return self.folder / "disk.qcow2"

    @property
    def template_disk(self) -> Path:
        """The data disk of a guest of QEMU that becomes a template."""
        return self.folder / "template.qcow2"

    @property
    def disk_vdi(self) -> Path:
        """The data disk of VirtualBox."""
        return self.folder / "disk.vdi"

    @property
    def origin(self) -> Path:
        """The path of the disk from which an imported machine's data was copied."""
        return self.folder / "origin"

    @property
    def virtualbox(self) -> Path:
        """VirtualBox's own folder of the machine: settings, logs, saved states."""
        return self.folder / "virtualbox"

    @property
    def virtualbox_settings(self) -> Path:
        """VirtualBox's settings file; only a machine registered with this path is b2d's."""
        return self.virtualbox / "machine.vbox"

    @property
    def virtualbox_log(self) -> Path:
        """The log of the machine's VirtualBox process since its last start."""
        return self.virtualbox / "Logs" / "VBox.log"

    @property
    def virtualbox_seed(self) -> Path:
        """The seed disk for VirtualBox: a CD, recognised by its file extension."""
        return self.virtualbox / "seed.iso"

    @property
    def qemu_pid(self) -> Path:
        """QEMU's pid file."""
        return self.folder / "qemu.pid"

    @property
    def qemu_record(self) -> Path:
        """The command line of the process of qemu.pid, and its identity."""
        return self.folder / "qemu.json"

    @property
    def qemu_saved(self) -> Path:
        """What the state saved in disk.qcow2 depends on; without this file there is no saved state."""
        return self.folder / "saved.json"

    @property
    def qmp_socket(self) -> Path:
        """The socket of QEMU's machine protocol (QMP)."""
        return self.folder / "qmp.sock"

    @property
    def line_socket(self) -> Path:
        """The socket of the machine's second serial port, the control port."""
        return self.folder / "line.sock"

    @property
    def virtiofsd_socket(self) -> Path:
        """The socket of a virtiofsd, which exists only while one is started."""
        return self.folder / "virtiofsd.sock"

    @property
    def virtiofsd_log(self) -> Path:
        """The log of virtiofsd."""
        return self.folder / "virtiofsd.log"

    @property
    def taken(self) -> Path:
        """The marker of a guest that has unmounted its folders on request, and not yet mounted them again."""
        return self.folder / "folders.taken"

    @property
    def nothing(self) -> Path:
        """An empty folder, shared in place of a missing one."""
        return self.folder / "nothing"

    @property
    def serial_log(self) -> Path:
        """The console's log."""
        return self.folder / "serial.log"

    @property
    def screen(self) -> Path:
        """The screenshot of a machine that did not start."""
        return self.folder / "screen.png"

    @property
    def qemu_log(self) -> Path:
        """QEMU's output since its last start."""
        return self.folder / "qemu.log"


class Home(NamedTuple):
    """The files of a home: $B2D_HOME, ~/.b2d by default."""

    root: Path

    @property
    def config(self) -> Path:
        """The only file that a user edits."""
        return self.root / "config.toml"

    @property
    def config_draft(self) -> Path:
        """The draft of config.toml during an edit; kept when it is not valid."""
        return self.root / "config.draft.toml"

    @property
    def config_lock(self) -> Path:
        """The lock held while b2d changes config.toml."""
        return self.root / ".config.lock"

    @property
    def log(self) -> Path:
        """The log of unexpected errors, with their tracebacks."""
        return self.root / "b2d.log"

    @property
    def older_log(self) -> Path:
        """The previous log, rotated when it grew too large."""
        return self.root / "b2d.log.1"

    @property
    def images(self) -> Path:
        """The folder of images."""
        return self.root / "images"

    @property
    def images_lock(self) -> Path:
        """The lock held while an image is added or removed."""
        return self.root / "images" / ".lock"

    @property
    def templates(self) -> Path:
        """The folder of templates, from which QEMU's machines start: deleting it loses nothing."""
        return self.root / "templates"

    @property
    def cache(self) -> Path:
        """The folder of packages and partial downloads: deleting it loses nothing."""
        return self.root / "cache"

    @property
    def suite_dates(self) -> Path:
        """The newest Date known of each suite of Debian's archive: without it an old index counts as new."""
        return self.root / "suites.json"

    @property
    def last_build(self) -> Path:
        """The inputs of b2d's last image build, and its hash."""
        return self.cache / "debian.last"

    @property
    def machines(self) -> Path:
        """The folder of machines."""
        return self.root / MACHINES

    @property
    def machines_lock(self) -> Path:
        """The lock held while a new machine gets its unique address and ports."""
        return self.root / ".machines.lock"

    def image(self, sha256: str) -> ImagePaths:
        """Return the paths of an image."""
        return ImagePaths(self.images, sha256)

    def machine(self, name: str) -> MachinePaths:
        """Return the paths of a machine."""
        return MachinePaths(self.machines / name)
