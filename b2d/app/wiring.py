"""Wire the parts together: the only module that names implementations of interfaces.

What a verb does not need is not loaded for it: `b2d config` asks no machine.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from b2d.config import loader
from b2d.config.loader import ResolvedSettings
from b2d.config.settings import Settings
from b2d.drivers import hypervisors
from b2d.errors import ConfigError, HypervisorError
from b2d.paths import Home, MachinePaths

if TYPE_CHECKING:
    from b2d.doctor.examination import Examination
    from b2d.drivers.base import Driver
    from b2d.guest.base import Dial, Guest
    from b2d.image.acquire import ImageAcquirer
    from b2d.image.image_store import ImageStore
    from b2d.machine.lifecycle import Machine
    from b2d.machine_store.store import MachineStore
    from b2d.models import Access, Endpoint, MachineSpec
    from b2d.reporting.base import Reporter

MIN_MEMORY_MIB = 512


class App:
    """All parts of one home, wired by its settings."""

    def __init__(self, home: Home, effective: ResolvedSettings, reporter: "Reporter") -> None:
        """Wire the parts; none is loaded yet."""
        self.home = home
        self.effective = effective
        self.reporter = reporter

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self.effective.settings

    @property
    def store(self) -> "MachineStore":
        """The machines of this home on disk."""
        from b2d.machine_store.store import MachineStore

        return MachineStore(self.home)

    @property
    def images(self) -> "ImageStore":
        """The images of this home."""
        from b2d.image.image_store import ImageStore

        return ImageStore(self.home)

    @property
    def supply(self) -> "ImageAcquirer":
        """The source of images."""
        return self.supplies()

    def supplies(self, *, allow_expired: bool = False) -> "ImageAcquirer":
        """Return the source of images; `allow_expired` accepts indexes of Debian's archive that are not fresh."""
        from b2d.image.acquire import ImageAcquirer

        return ImageAcquirer(self.home, self.settings.mirror, self.reporter, allow_expired)

    @property
    def access(self) -> "Access":
        """Who may log in to a guest that boots now."""
        from b2d.models import Access

        return Access(self.settings.ssh_password, self.settings.password, self.settings.host_loopback)

    @property
    def wait_s(self) -> float:
        """How long `up` may take, in seconds."""
        return self.settings.wait

    @property
    def stop_wait_s(self) -> float:
        """How long the guest has to power itself off, in seconds."""
        return self.settings.stop_wait

    def machine(self, name: str = "") -> "Machine":
        """Return the machine of that name, by default the one that the settings name. It need not exist."""
        from b2d.machine.lifecycle import Machine

        return Machine(name or self.settings.vm, self)

    def guest(self, endpoint: "Endpoint", paths: MachinePaths, dial: "Dial | None") -> "Guest":
        """Return the Linux inside a running machine."""
        from b2d.guest.ssh.client import SshGuest

        return SshGuest(endpoint, paths, dial)

    def unknown_guest(
        self, endpoint: "Endpoint", paths: MachinePaths, dial: "Dial | None", greeting_s: float
    ) -> "Guest":
        """Return the Linux inside a machine that may be boot2docker's own."""
        from functools import partial

        from b2d.guest.ssh import first_login
        from b2d.guest.ssh.client import SshGuest

        return SshGuest(endpoint, paths, dial, partial(first_login.connect, greeting_s=greeting_s))

    def driver(self, spec: "MachineSpec") -> "Driver":
        """Return the driver of a machine. Raises ConfigError for one that b2d cannot drive."""
        hypervisor, paths = hypervisors.get(spec.driver), self.home.machine(spec.name)
        if hypervisor is hypervisors.QEMU:
            from b2d.drivers.qemu.driver import QemuDriver, QemuSettings

            chosen = QemuSettings(self.settings.accelerator, self.settings.mount_type, self.settings.templates)
            return QemuDriver(spec, paths, lambda: self.images.get(spec.image), chosen)
        from b2d.drivers.virtualbox.driver import VirtualBoxDriver

        settings = self.settings
        return VirtualBoxDriver(
            spec,
            paths,
            lambda: self.images.get(spec.image),
            settings.vboxapi,
            uncompressed_boot=settings.uncompressed_boot,
        )

    def new_machine_spec(self) -> "MachineSpec":
        """Return what a new machine should look like, by the settings. Raises ConfigError."""
        from b2d.image.source import describe_source
        from b2d.models import GUEST_DOCKER_PORT_NO_TLS, HARDWARE, MachineSpec

        settings = self.settings
        self.check_network()
        self.store.check_case_conflict(settings.vm)
        default_port = self.effective.origins["docker_port"] == loader.DEFAULT
        docker_port = GUEST_DOCKER_PORT_NO_TLS if default_port and not settings.tls else settings.docker_port
        source, driver = describe_source(settings.image), self.hypervisor()
        share, folders = self._folders()
        return MachineSpec(
            name=settings.vm,
            driver=driver,
            source=source,
            image="",
            memory_mib=self._memory_mib(),
            cpus=settings.cpus,
            disk_mib=settings.disk,
            address=settings.address,
            ssh_port=settings.ssh_port,
            docker_port=docker_port,
            tls=settings.tls,
            hardware=HARDWARE,
            restrict=settings.restrict,
            folders=folders,
            share=share,
        )

    def with_image(self, spec: "MachineSpec") -> "MachineSpec":
        """Return the spec with an image of its source, obtained first where none is stored. Raises B2dError."""
        return spec._replace(image=self.supply.ensure(spec.source).sha256)

    def examination(self, unread: ConfigError | None = None) -> "Examination":
        """Return doctor's examination; `unread` says why the user's settings could not be read."""
        from b2d.app.machine_probe import AppProbe
        from b2d.doctor import examination as doctor
        from b2d.drivers.qemu import accelerator, virtiofsd

        def chosen() -> tuple[str, str]:
            accelerator_choice = accelerator.choose(self.settings.accelerator)
            return accelerator_choice.name, accelerator_choice.reason

        machines = doctor.MachineChecks(self.home, AppProbe(self), self.images)
        hypervisor, spare = self.hypervisor(), self.images.unused
        checks = (self._mirror, chosen, self._virtualbox, machines, spare, virtiofsd.find_newest, hypervisor, unread)
        return doctor.Examination(self.home, *checks, namespaces=virtiofsd.is_sandboxed)

    def _virtualbox(self) -> str:
        """Return the version and place of the VirtualBox that works here. Raises HypervisorError."""
        from b2d.drivers.virtualbox.installation import SearchPaths

        places = SearchPaths()
        folder = places.vboxapi(self.settings.vboxapi)
        from b2d.drivers.virtualbox.client import VirtualBox

        version = f"{VirtualBox(folder).version}, through {folder}"
        if not places.can_start():
            raise HypervisorError(
                f"{version}, but its driver is not in the kernel",
                hint="sudo modprobe vboxdrv, or where there is none: sudo /sbin/vboxconfig",
            )
        return version

    def check_network(self) -> None:
        """Raise ConfigError for network settings that a guest could not be given, before anything is stopped."""
        from b2d.guest import network_config

        network_config.check(self.settings)

    def guest_network(self, spec: "MachineSpec") -> Mapping[str, bytes]:
        """Return the files that tell a guest that boots now of proxies, registries and DNS. Raises ConfigError."""
        from b2d.guest import network_config

        hypervisor = hypervisors.get(spec.driver)
        remarks = network_config.remarks(
            self.settings,
            self.effective.origins,
            spec,
            reaches_loopback_dns=hypervisor.reaches_loopback_dns,
            can_restrict=hypervisor.can_restrict,
        )
        for remark in remarks:
            self.reporter.warn(remark)
        return network_config.files(network_config.from_settings(self.settings, spec))

    def _mirror(self) -> str:
        from b2d.image.build import mirror, recipe

        return mirror.choose(self.settings.mirror, recipe.read(recipe.find()).mirrors)[0].name

    def hypervisor(self) -> str:
        """Return the driver's name: as set, or by the disk that exists, else VirtualBox if it can start, else QEMU."""
        from b2d.drivers.virtualbox.installation import SearchPaths

        if self.settings.driver != "auto":
            return self.settings.driver
        paths = self.home.machine(self.settings.vm)  # of a machine that lost its description the disk is there
        if name := hypervisors.of_disk(paths):
            return name
        return (hypervisors.VIRTUALBOX if SearchPaths().can_start() else hypervisors.QEMU).name

    def _folders(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the `share` setting and the folders that it selects now. Raises ConfigError."""
        from b2d.guest import share_policy

        is_explicit = self.effective.origins["share"] != loader.DEFAULT
        try:
            share = share_policy.words(self.settings.share)
        except ConfigError:
            if is_explicit:
                raise
            share = ()  # the guest has this path itself, and `share` is only the default
        share_policy.check(share, self.home.root)
        if sentence := share_policy.warning(share):
            self.reporter.warn(sentence)
        return share, share_policy.select(share, self.home.root).folders

    def _memory_mib(self) -> int:
        """Return the memory in MiB: as set; the default is at most half of this host's."""
        wanted = self.settings.memory
        if self.effective.origins["memory"] != loader.DEFAULT:
            return wanted
        import psutil

        half = psutil.virtual_memory().total // 2 // (1 << 20)
        return max(MIN_MEMORY_MIB, min(wanted, half))


def make_app(environ: Mapping[str, str], flags: Mapping[str, object], reporter: "Reporter") -> App:
    """Return the app of this process's home. Raises ConfigError."""
    home = loader.resolve_home(environ)
    effective = loader.load(home, environ, flags)
    for remark in effective.remarks:
        reporter.warn(remark)
    return App(home, effective, reporter)
