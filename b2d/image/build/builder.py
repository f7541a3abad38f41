"""The whole way from Debian's archive to an ISO, without root and without running what is unpacked."""

import errno
import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import zstandard

from b2d.errors import B2dError, ConfigError, DownloadError
from b2d.formats import iso_writer
from b2d.host.files import private_folder, write_atomic
from b2d.image.build import (
    apt_repository,
    cpio,
    fingerprint,
    freshness,
    initramfs,
    manifest,
    mirror,
    recipe,
    rootfs,
    squashfs,
)
from b2d.image.build.apt_repository import Package, PackageIndex
from b2d.image.build.deb import unpack
from b2d.image.build.freshness import Freshness, StaleIndexError
from b2d.image.build.fs_tree import Tree
from b2d.image.build.kernel_modules import Modules, install
from b2d.image.build.package_cache import Cache, get_all
from b2d.image.build.recipe import Recipe
from b2d.models import Suite
from b2d.reporting.base import Reporter

INITRD_LEVEL = 19  # of zstd
ISOLINUX = "usr/lib/ISOLINUX/isolinux.bin"
LDLINUX = "usr/lib/syslinux/modules/bios/ldlinux.c32"


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What to build, and where to put it."""

    architecture: str
    mirror: str  # "": apt's own, else the recipe's
    cache: Path
    output: Path
    recipe: Path = field(default_factory=recipe.find)  # the folder iso/
    dates: Path | None = None  # the file in which the dates of indexes are remembered
    kept: Path | None = None  # the ISO of the newest kept image, whose packages none may be older than
    allow_expired: bool = False


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """What was built."""

    path: Path
    sha256: str
    version: str


@dataclass(frozen=True, slots=True)
class _ChosenPackages:
    """The packages of an image; the kernel is one of `root`."""

    root: list[Package]
    medium: list[Package]
    kernel: Package
    suites: tuple[Suite, ...]

    @property
    def version(self) -> str:
        """Docker's and Linux's, which is what a person wants to know of an image."""
        docker = next(package for package in self.root if package.name == "docker.io")
        return f"{_upstream(docker.version)}-{_upstream(self.kernel.version)}"

    @property
    def all(self) -> list[Package]:
        return [*self.root, *self.medium]


@dataclass(frozen=True, slots=True)
class _Trees:
    """What the packages hold; nothing in the image is newer than `mtime` (Unix time)."""

    root: Tree
    medium: Tree
    mtime: int


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """All that an image is made of, here and verified."""

    request: BuildRequest
    plan: Recipe
    chosen: _ChosenPackages
    cache: Cache

    @property
    def ingredients(self) -> str:
        """The same for what would come out alike."""
        return fingerprint.fingerprint(self.request.recipe, self.chosen.all, self.chosen.suites)


def build_image(request: BuildRequest, reporter: Reporter) -> BuiltImage:
    """Assemble the image at `request.output`, with its manifest beside it. All or nothing. Raises B2dError.

    The same packages from the same indexes give the same bytes.
    """
    return assemble_image(plan(request, reporter), reporter)


def plan(request: BuildRequest, reporter: Reporter) -> BuildPlan:
    """Fetch what is missing of the newest packages. Raises B2dError, and StaleIndexError where newer ones may exist."""
    if request.architecture not in recipe.ARCHITECTURES:
        known = ", ".join(recipe.ARCHITECTURES)
        raise ConfigError(f"there is no image for {request.architecture} yet", hint=f"--arch {known}")
    plan = recipe.read(request.recipe)
    with _on_disk(request.output):
        cache = Cache(private_folder(request.cache / "packages"))
        chosen = _fetch(plan, request, cache, reporter)
        cache.drop_old(time.time(), {package.file.sha256 for package in chosen.all})
        return BuildPlan(request, plan, chosen, cache)


def assemble_image(gathered: BuildPlan, reporter: Reporter) -> BuiltImage:
    """Make the image of it. Raises B2dError."""
    request = gathered.request
    with _on_disk(request.output):
        unpacked = _unpack(gathered.chosen, gathered.cache, reporter)
        private_folder(request.output.parent)
        with TemporaryDirectory(dir=request.output.parent, prefix=".b2d-") as work:
            return _assemble(gathered, unpacked, Path(work), reporter)


def _assemble(gathered: BuildPlan, unpacked: _Trees, work: Path, reporter: Reporter) -> BuiltImage:
    request, plan, chosen = gathered.request, gathered.plan, gathered.chosen
    trees = (unpacked.root, unpacked.medium)
    about = manifest.ImageInfo(chosen.version, request.architecture, unpacked.mtime, chosen.suites)
    described = manifest.describe(about, chosen.all, trees)
    files = _kernel(plan, unpacked, reporter) | _boot_loader(plan, unpacked.medium)
    files |= _root(plan, unpacked, work, reporter)
    files["/b2d/manifest.json"] = manifest.render(described)
    files["/b2d/image.json"] = _image_json(chosen, plan, files)
    path = work / "b2d.iso"
    with reporter.step("writing the ISO"):
        iso_writer.write(files, f"b2d-v{chosen.version}", unpacked.mtime, path)
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    write_atomic(manifest_path(request.output), manifest.render(described), 0o644)
    path.replace(request.output)
    return BuiltImage(request.output, sha256, chosen.version)


@contextmanager
def _on_disk(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = "make room, then try again" if error.errno == errno.ENOSPC else ""
        raise B2dError(
            f"{error.filename2 or error.filename or output}: {error.strerror or error}", hint=hint
        ) from error


def manifest_path(iso: Path) -> Path:
    """Where the manifest of an image lies."""
    return iso.with_name(iso.name + ".manifest.json")


def _fetch(plan: Recipe, request: BuildRequest, cache: Cache, reporter: Reporter) -> _ChosenPackages:
    """Choose and fetch the packages from the first mirror that answers with what Debian signed.

    What may be stale is taken only where every mirror gives no better, and `allow_expired` lets it.
    """
    seen = freshness.read_dates(request.dates) if request.dates else {}
    kept = manifest.versions(request.kept, plan.suite) if request.kept else {}
    try:
        chosen = _fetch_from_any(plan, request, cache, Freshness(seen, kept), reporter)
    except DownloadError:
        if not request.allow_expired:
            raise
        chosen = _fetch_from_any(plan, request, cache, Freshness(seen, kept, allow_expired=True), reporter)
    if request.dates:
        freshness.record_dates(request.dates, chosen.suites)
    return chosen


def _fetch_from_any(
    plan: Recipe, request: BuildRequest, cache: Cache, fresh: Freshness, reporter: Reporter
) -> _ChosenPackages:
    """Try the mirrors in order. Raises the StaleIndexError of one that answers, else the failure of the last."""
    mirrors = mirror.choose(request.mirror, plan.mirrors)
    failures: list[DownloadError] = []
    for candidate in mirrors:
        try:
            with reporter.step(f"reading the index of {candidate.name}"):
                available = apt_repository.packages(plan, candidate, request.architecture, cache, reporter, fresh)
            chosen = _choose(plan, available)
            fresh.check_versions(manifest.by_name((one.name, one.version) for one in chosen.all), reporter)
            get_all([package.file for package in chosen.all], cache, reporter, "packages")
            return chosen
        except DownloadError as failure:
            failures.append(failure)
            if candidate is not mirrors[-1]:
                reporter.warn(f"{failure.message}: trying the next mirror")
    raise next((failure for failure in failures if isinstance(failure, StaleIndexError)), failures[-1])


def _choose(plan: Recipe, available: PackageIndex) -> _ChosenPackages:
    (meta,) = apt_repository.choose([plan.kernel_package], available.packages)
    (kernel,) = apt_repository.choose([apt_repository.kernel_of(meta)], available.packages)
    return _ChosenPackages(
        root=[kernel, *apt_repository.choose(plan.root_packages, available.packages)],
        medium=apt_repository.choose(plan.medium_packages, available.packages),
        kernel=kernel,
        suites=available.suites,
    )


def _unpack(chosen: _ChosenPackages, cache: Cache, reporter: Reporter) -> _Trees:
    tree, medium = Tree(), Tree()
    with reporter.step("unpacking the packages"):
        times = [unpack(cache.path(one.file.sha256), one.name, tree, _is_of_use) for one in chosen.root]
        times += [unpack(cache.path(one.file.sha256), one.name, medium, _is_boot_loader) for one in chosen.medium]
    return _Trees(tree, medium, max(times))


def _is_of_use(path: str) -> bool:
    """False for what no image needs and a package has much of."""
    if path.startswith(("usr/share/doc/", "usr/share/man/", "usr/share/locale/")):
        return path.endswith("/copyright")
    return not path.startswith("boot/System.map")


def _is_boot_loader(path: str) -> bool:
    return path in (ISOLINUX, LDLINUX) or path.endswith("/copyright")


def _kernel(plan: Recipe, unpacked: _Trees, reporter: Reporter) -> dict[str, bytes | Path]:
    """The kernel and the first file system; of the root's modules only those that are wanted remain."""
    tree = unpacked.root
    kernel = next((path for path, _ in tree if path.startswith("boot/vmlinuz-")), None)
    if kernel is None:
        raise B2dError("the kernel's package holds no kernel")
    with reporter.step("choosing kernel modules"):
        modules = Modules(Tree(dict(tree.nodes)), kernel.removeprefix("boot/vmlinuz-"))
        tree.remove(f"{modules.folder}*")
        install(modules, modules.with_dependencies((*plan.modules, *plan.stage1.first, *plan.stage1.more)), tree)
        first = initramfs.compose(plan, tree[plan.busybox].content, modules)
        initrd = zstandard.ZstdCompressor(level=INITRD_LEVEL).compress(cpio.pack(first, unpacked.mtime))
    return {"/boot/vmlinuz": tree[kernel].content, "/boot/initrd": initrd}


def _root(plan: Recipe, unpacked: _Trees, work: Path, reporter: Reporter) -> dict[str, bytes | Path]:
    """The root file system, as small as this host can make it."""
    rootfs.compose(unpacked.root, plan)
    if squashfs.available():
        path, pack = work / "root.squashfs", squashfs.pack
    else:
        path, pack = work / "root.cpio.gz", squashfs.pack_without
        reporter.warn(
            f"{squashfs.PROGRAM} is not installed (b2d doctor --fix installs it): the image is larger, "
            "and lies in the machine's memory whole"
        )
    with reporter.step("compressing the root file system"):
        pack(unpacked.root, unpacked.mtime, path)
    return {f"/b2d/{path.name}": path}


def _boot_loader(plan: Recipe, medium: Tree) -> dict[str, bytes | Path]:
    lines = ("default b2d", "label b2d", "kernel /boot/vmlinuz", "initrd /boot/initrd")
    configuration = "\n".join((*lines, f"append {plan.kernel_arguments}", ""))
    return {
        "/isolinux/isolinux.bin": medium[ISOLINUX].content,
        "/isolinux/ldlinux.c32": medium[LDLINUX].content,
        "/isolinux/isolinux.cfg": configuration.encode(),
    }


def _image_json(chosen: _ChosenPackages, plan: Recipe, files: dict[str, bytes | Path]) -> bytes:
    """How a hypervisor boots the image without its boot loader; images.py reads it."""
    facts = {
        "format": 1,
        "version": chosen.version,
        "suites": [asdict(suite) for suite in chosen.suites],
        "kernel": "/boot/vmlinuz",
        "initrd": "/boot/initrd",
        "root": next(path for path in files if path.startswith("/b2d/root.")),
        "arguments": plan.kernel_arguments,
    }
    return (json.dumps(facts, indent=1) + "\n").encode()


def _upstream(version: str) -> str:
    """A package's version without Debian's own part: 26.1.5 of 26.1.5+dfsg1-9+b1."""
    return version.rpartition(":")[2].partition("-")[0].partition("+")[0]
