"""Where everything lies on disk: every path is a property here, and nothing is read or written."""

from dataclasses import dataclass
from pathlib import Path

MACHINES = "machines"


@dataclass(frozen=True, slots=True)
class ImagePaths:
    """The files of one kept image: images/<sha256>.*"""

    folder: Path
    sha256: str

    @property
    def iso(self) -> Path:
        return self.folder / f"{self.sha256}.iso"

    @property
    def facts(self) -> Path:
        """What it is, as JSON; written last, so an image without it is not there."""
        return self.folder / f"{self.sha256}.json"

    @property
    def kernel(self) -> Path:
        return self.folder / f"{self.sha256}.vmlinux"

    @property
    def initrd(self) -> Path:
        return self.folder / f"{self.sha256}.initrd"

    @property
    def stored(self) -> Path:
        """The ISO once more, with nothing in it compressed."""
        return self.folder / f"{self.sha256}.stored.iso"

    @property
    def checked(self) -> Path:
        """How the files looked when they were last hashed, so that an unchanged one is not hashed again."""
        return self.folder / f"{self.sha256}.checked"


@dataclass(frozen=True, slots=True)
class MachinePaths:
    """The files of one machine: machines/<name>/*. docs/architecture.md says who writes which."""

    folder: Path

    @property
    def home(self) -> Path:
        """The $B2D_HOME that it lies in, or the folder itself where that is elsewhere."""
        return self.folder.parent.parent if self.folder.parent.name == MACHINES else self.folder

    @property
    def spec(self) -> Path:
        return self.folder / "machine.json"

    @property
    def spec_copy(self) -> Path:
        """The same once more: what somebody or something broke is brought back from it."""
        return self.folder / "machine.json.copy"

    @property
    def spec_broken(self) -> Path:
        """One that could not be read, put aside."""
        return self.folder / "machine.json.broken"

    @property
    def lock(self) -> Path:
        return self.folder.parent / f".{self.folder.name}.lock"  # beside it: delete removes the folder

    @property
    def holder(self) -> Path:
        """Who holds the lock: pid and verb. Beside the lock, since some lock libraries empty the lock file."""
        return self.folder.parent / f".{self.folder.name}.holder"

    @property
    def env(self) -> Path:
        """key=value lines; written last by up, removed first by whatever ends the machine."""
        return self.folder / "env"

    @property
    def companion(self) -> Path:
        """Which process is the machine's companion, and which process of the machine it is of."""
        return self.folder / "companion.json"

    @property
    def companion_log(self) -> Path:
        """What it says, which should be nothing."""
        return self.folder / "companion.log"

    @property
    def agent(self) -> Path:
        """What it serves, and what it was refused."""
        return self.folder / "agent.json"

    @property
    def companion_lock(self) -> Path:
        return self.folder.parent / f".{self.folder.name}.companion.lock"

    @property
    def docker_socket(self) -> Path:
        """Leads to the machine's Docker while that runs; its companion serves it."""
        return self.folder / "docker.sock"

    @property
    def ssh_key(self) -> Path:
        return self.folder / "id_ed25519"

    @property
    def ssh_public_key(self) -> Path:
        return self.folder / "id_ed25519.pub"

    @property
    def host_key(self) -> Path:
        """The guest's own private key, made here, so that it is known before the first connection."""
        return self.folder / "host_ed25519"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def certs(self) -> Path:
        """What a docker client is pointed at (DOCKER_CERT_PATH): ca.pem, cert.pem, key.pem."""
        return self.folder / "certs"

    @property
    def authority(self) -> Path:
        """What no client needs: ca-key.pem, server.pem, server-key.pem."""
        return self.folder / "authority"

    @property
    def seed(self) -> Path:
        """The small read-only disk that tells the guest who it is."""
        return self.folder / "seed.img"

    @property
    def disk_qcow2(self) -> Path:
        return self.folder / "disk.qcow2"

    @property
    def disk_vdi(self) -> Path:
        return self.folder / "disk.vdi"

    @property
    def origin(self) -> Path:
        """Which disk the data of an imported machine was copied from."""
        return self.folder / "origin"

    @property
    def virtualbox(self) -> Path:
        """VirtualBox's own folder of the machine: settings, logs, saved states."""
        return self.folder / "virtualbox"

    @property
    def virtualbox_settings(self) -> Path:
        """The machine that VirtualBox has under this file is ours, and no other."""
        return self.virtualbox / "machine.vbox"

    @property
    def virtualbox_log(self) -> Path:
        """What the machine's process wrote since its last start."""
        return self.virtualbox / "Logs" / "VBox.log"

    @property
    def virtualbox_seed(self) -> Path:
        """The seed disk as VirtualBox takes it: a CD, known by its name's ending."""
        return self.virtualbox / "seed.iso"

    @property
    def qemu_pid(self) -> Path:
        return self.folder / "qemu.pid"

    @property
    def qemu_record(self) -> Path:
        """How the process of qemu.pid was started, and which process it is."""
        return self.folder / "qemu.json"

    @property
    def qemu_saved(self) -> Path:
        """What the state saved in disk.qcow2 depends on; no such file, no saved state."""
        return self.folder / "saved.json"

    @property
    def qmp_socket(self) -> Path:
        return self.folder / "qmp.sock"

    @property
    def line_socket(self) -> Path:
        """The machine's second serial port."""
        return self.folder / "line.sock"

    @property
    def virtiofsd_socket(self) -> Path:
        """There while one is started, for a moment."""
        return self.folder / "virtiofsd.sock"

    @property
    def virtiofsd_log(self) -> Path:
        return self.folder / "virtiofsd.log"

    @property
    def taken(self) -> Path:
        """There while the guest has been told to let its folders go, and not yet to have them again."""
        return self.folder / "folders.taken"

    @property
    def nothing(self) -> Path:
        """An empty folder, in place of a shared one that is missing."""
        return self.folder / "nothing"

    @property
    def serial_log(self) -> Path:
        return self.folder / "serial.log"

    @property
    def screen(self) -> Path:
        """The screen of a machine that did not come up, as a picture."""
        return self.folder / "screen.png"

    @property
    def qemu_log(self) -> Path:
        """What QEMU said since its last start."""
        return self.folder / "qemu.log"


@dataclass(frozen=True, slots=True)
class Home:
    """$B2D_HOME, ~/.b2d by default."""

    root: Path

    @property
    def config(self) -> Path:
        """The only file that a person edits."""
        return self.root / "config.toml"

    @property
    def config_draft(self) -> Path:
        """It as somebody is editing it; left where it cannot be read."""
        return self.root / "config.draft.toml"

    @property
    def config_lock(self) -> Path:
        """Held while b2d changes config.toml."""
        return self.root / ".config.lock"

    @property
    def log(self) -> Path:
        """What nobody foresaw, with its traceback."""
        return self.root / "b2d.log"

    @property
    def older_log(self) -> Path:
        """What came before, when that was too much for one file."""
        return self.root / "b2d.log.1"

    @property
    def images(self) -> Path:
        return self.root / "images"

    @property
    def images_lock(self) -> Path:
        """Held while an image is taken in or removed."""
        return self.root / "images" / ".lock"

    @property
    def cache(self) -> Path:
        """Packages and partial downloads: deleting it loses nothing."""
        return self.root / "cache"

    @property
    def suite_dates(self) -> Path:
        """The newest Date that was seen of each suite of Debian's archive: without it an old index counts as new."""
        return self.root / "suites.json"

    @property
    def last_build(self) -> Path:
        """What b2d's own image was last made of, and its hash."""
        return self.cache / "debian.last"

    @property
    def machines(self) -> Path:
        return self.root / MACHINES

    @property
    def machines_lock(self) -> Path:
        """Held while a new machine is given what no other may have."""
        return self.root / ".machines.lock"

    def image(self, sha256: str) -> ImagePaths:
        return ImagePaths(self.images, sha256)

    def machine(self, name: str) -> MachinePaths:
        return MachinePaths(self.machines / name)
