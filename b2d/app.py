"""The wiring: the only module that names an implementation of a door.

What a verb does not need is not loaded for it: `b2d config` asks no machine.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from b2d import config
from b2d.config import Effective
from b2d.errors import ConfigError, HypervisorUnusable
from b2d.files import private_folder
from b2d.layout import Home, MachinePaths
from b2d.settings import Settings
from b2d.sources import BOOT2DOCKER, DEBIAN, is_file, is_releases, named

if TYPE_CHECKING:
    from b2d.doctor import Examination
    from b2d.images import Images
    from b2d.machine import Machine
    from b2d.model import Endpoint, Image, MachineSpec
    from b2d.ports import Driver, Guest, Reporter
    from b2d.releases import Release
    from b2d.store import MachineStore

QEMU, VIRTUALBOX = "qemu", "virtualbox"
LEAST_MEMORY_MIB = 512


@dataclass(frozen=True, slots=True)
class App:
    """Everything of one home, put together from its settings."""

    home: Home
    effective: Effective
    reporter: "Reporter"

    @property
    def settings(self) -> Settings:
        return self.effective.settings

    @property
    def store(self) -> "MachineStore":
        from b2d.store import MachineStore

        return MachineStore(self.home)

    @property
    def images(self) -> "Images":
        from b2d.images import Images

        return Images(self.home)

    def machine(self, name: str = "") -> "Machine":
        """The machine of that name, by default the one that the settings name. It need not exist."""
        from b2d.machine import Machine, Parts

        parts = Parts(
            store=self.store,
            images=lambda: self.images,
            driver=self.driver,
            guest=_guest,
            reporter=self.reporter,
            wait_s=self.settings.wait,
            stop_wait_s=self.settings.stop_wait,
            ssh_password=self.settings.ssh_password,
        )
        return Machine(name or self.settings.vm, parts)

    def driver(self, spec: "MachineSpec") -> "Driver":
        """The hypervisor of a machine. Raises ConfigError for one that b2d cannot drive."""
        paths = self.home.machine(spec.name)
        if spec.driver == QEMU:
            from b2d.drivers.qemu import QemuDriver

            return QemuDriver(spec, paths, lambda: self.images.get(spec.image), self.settings.accelerator)
        if spec.driver == VIRTUALBOX:
            from b2d.drivers.virtualbox import VirtualBoxDriver

            return VirtualBoxDriver(spec, paths, lambda: self.images.get(spec.image), self.settings.vboxapi)
        raise ConfigError(f"this b2d cannot drive {spec.driver}", hint=f"--driver {QEMU}")

    def wished(self) -> "MachineSpec":
        """What a new machine should look like, with an image, which is obtained first where there is none."""
        from b2d import address
        from b2d.model import GUEST_DOCKER_PORT_NO_TLS, MachineSpec

        settings = self.settings
        default_port = self.effective.origins["docker_port"] == config.DEFAULT
        docker_port = GUEST_DOCKER_PORT_NO_TLS if default_port and not settings.tls else settings.docker_port
        taken = {spec.address for spec in self.store.neighbours(settings.vm)}
        source, driver = named(settings.image), self._hypervisor()
        spec = MachineSpec(
            name=settings.vm,
            driver=driver,
            source=source,
            image="",
            memory_mib=self._memory_mib(),
            cpus=settings.cpus,
            disk_mib=settings.disk,
            address=settings.address or address.pick(taken, (settings.ssh_port, docker_port)),
            ssh_port=settings.ssh_port,
            docker_port=docker_port,
            tls=settings.tls,
            restrict=settings.restrict,
            folders=self._folders(driver),
        )
        self.driver(spec).check()  # before minutes are spent on an image
        return replace(spec, image=self._first_image(source).sha256)

    def obtain(self, source: str) -> "Image":
        """Build or fetch the newest image of a source and keep it. Raises DownloadFailed; nothing is kept then."""
        if source == DEBIAN:
            return self._build()
        if is_file(source):
            return self.images.adopt(Path(source), source)
        return self._download(self._release(source), source)

    def renew(self, source: str) -> tuple["Image", bool, str]:
        """The newest image of a source, whether it is new, and that in words; where nobody can be asked, what is kept.

        Raises DownloadFailed.
        """
        from b2d.web import Unanswered

        before = {image.sha256 for image in self.images.all()}
        try:
            image = self.obtain(source)
        except Unanswered as error:
            kept = self.images.find(source)
            if kept is None:
                raise
            return kept, False, f"what is kept, as no newer one could be asked for ({error.message})"
        known = image.sha256 in before
        return image, not known, "the newest already" if known else "kept"

    def build_iso(self, architecture: str, output: Path) -> str:
        """Assemble b2d's own image at `output`; its version."""
        from b2d.image.build import BuildRequest, build

        request = BuildRequest(architecture, self.settings.mirror, self.home.cache, output)
        return build(request, self.reporter).version

    def examination(self) -> "Examination":
        """What doctor looks at."""
        from b2d import doctor
        from b2d.drivers import accelerator

        def chosen() -> tuple[str, str]:
            found = accelerator.choose(self.settings.accelerator)
            return found.name, found.reason

        return doctor.Examination(self.home, self._mirror, chosen, self._virtualbox, self._hypervisor())

    def _virtualbox(self) -> str:
        """Version and place of the VirtualBox that works here. Raises HypervisorUnusable."""
        from b2d.drivers.virtualbox_find import Places

        places = Places()
        folder = places.vboxapi(self.settings.vboxapi)
        from b2d.drivers.virtualbox_api import VirtualBox

        found = f"{VirtualBox(folder).version}, through {folder}"
        if not places.can_start():
            raise HypervisorUnusable(f"{found}, but its driver is not in the kernel", hint="modprobe vboxdrv")
        return found

    def _mirror(self) -> str:
        from b2d.image import mirror, recipe

        return mirror.choose(self.settings.mirror, recipe.read(recipe.find()).mirrors)[0].name

    def _first_image(self, source: str) -> "Image":
        """A file as it is now; of other sources what is kept, if anything is."""
        kept = None if is_file(source) else self.images.find(source)
        return kept or self.obtain(source)

    def _build(self) -> "Image":
        """What would come out as it is kept is not built."""
        from tempfile import TemporaryDirectory

        from b2d.files import text_of, write_whole
        from b2d.image.build import BuildRequest, assemble, gather

        with TemporaryDirectory(dir=private_folder(self.home.cache), prefix=".b2d-") as folder:  # two may build at once
            request = BuildRequest("amd64", self.settings.mirror, self.home.cache, Path(folder) / "b2d.iso")
            gathered = gather(request, self.reporter)
            made_of, _, sha256 = text_of(self.home.last_build).partition(" ")
            if made_of == gathered.ingredients and (kept := self.images.sound(sha256)):
                return self._newest_again(kept, DEBIAN)
            iso = assemble(gathered, self.reporter).path
            with self.reporter.step("keeping the image"):
                image = self.images.take(iso, DEBIAN)
        write_whole(self.home.last_build, f"{gathered.ingredients} {image.sha256}".encode())
        return image

    def _release(self, source: str) -> "Release":
        """What is to be had from a source on the network."""
        from b2d import releases

        if source == BOOT2DOCKER and self.images.find(source) is None:
            return releases.boot2docker_release(self.home.cache, self.reporter)
        if source == BOOT2DOCKER:
            return releases.newest_release(self.home.cache)
        if is_releases(source):
            return releases.newest_release(self.home.cache, source)
        return releases.Release("", source)

    def _download(self, release: "Release", source: str) -> "Image":
        from b2d import download
        from b2d.releases import check_label

        cache = self.home.cache
        with download.alone(release.url, cache, self.reporter):
            kept = self.images.sound(release.sha256 or download.last(release.url, cache))
            if kept and release.sha256:
                return self._newest_again(kept, source)
            known = kept.sha256 if kept else ""
            try:
                iso = download.fetch(release.url, cache, self.reporter, sha256=release.sha256, kept=known)
            except download.Unchanged:
                return self._newest_again(self.images.get(known), source)
            try:
                if source == BOOT2DOCKER:
                    check_label(release, iso, self.reporter)
                return self.images.take(iso, source, release.version)
            finally:
                iso.unlink(missing_ok=True)

    def _newest_again(self, kept: "Image", source: str) -> "Image":
        """The kept one as the newest of `source`, whose newest may be another by now, or none."""
        newest = self.images.find(source)
        return newest if newest and newest.sha256 == kept.sha256 else self.images.adopt(kept.iso, source, kept.version)

    def _hypervisor(self) -> str:
        """What was asked for; for "auto" VirtualBox where a machine can really start there, else QEMU."""
        from b2d.drivers.virtualbox_find import Places

        if self.settings.driver != "auto":
            return self.settings.driver
        return VIRTUALBOX if Places().can_start() else QEMU

    def _folders(self, driver: str) -> tuple[str, ...]:
        """What is shared with the guest; QEMU's machines share nothing yet. Raises ConfigError for what cannot be."""
        from b2d import folders

        if driver != VIRTUALBOX:
            return ()
        shared = []
        for text in self.settings.share:
            try:
                found = folders.parse(text)
            except ConfigError:
                if self.effective.origins["share"] != config.DEFAULT:
                    raise
                continue  # the home of a person whom the guest has too: nobody asked for it
            shared.append(found.host + (folders.READ_ONLY if found.read_only else ""))
        return tuple(shared)

    def _memory_mib(self) -> int:
        """What was asked for; what nobody asked for is half of this host's memory at most."""
        wanted = self.settings.memory
        if self.effective.origins["memory"] != config.DEFAULT:
            return wanted
        import psutil

        half = psutil.virtual_memory().total // 2 // (1 << 20)
        return max(LEAST_MEMORY_MIB, min(wanted, half))


def make(environ: Mapping[str, str], flags: Mapping[str, object], reporter: "Reporter") -> App:
    """The app of this process's home. Raises ConfigError."""
    home = config.home(environ)
    effective = config.load(home, environ, flags)
    for remark in effective.remarks:
        reporter.warn(remark)
    return App(home, effective, reporter)


def _guest(endpoint: "Endpoint", paths: MachinePaths) -> "Guest":
    from b2d.ssh import SshGuest

    return SshGuest(endpoint, paths)
