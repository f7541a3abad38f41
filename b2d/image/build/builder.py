"""Build an ISO from Debian's archive, without root and without running anything that is unpacked."""

import errno
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import zstandard

from b2d.errors import B2dError, ConfigError, DownloadError
from b2d.formats import iso_writer
from b2d.host.files import hash_of, private_folder, write_atomic
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
from b2d.image.build.package_cache import Cache, fetch_all
from b2d.image.build.recipe import Recipe
from b2d.models import Suite
from b2d.reporting.base import Reporter

INITRD_LEVEL = 19  # of zstd
ISOLINUX = "usr/lib/ISOLINUX/isolinux.bin"
SYSLINUX_MODULES = "usr/lib/syslinux/modules/bios"


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """The image to build, and its location."""

    architecture: str
    mirror: str  # "": those of apt on this host, else the recipe's
    cache: Path
    output: Path
    recipe: Path = field(default_factory=recipe.find)  # the folder iso/
    dates: Path | None = None  # the file that records the dates of indexes
    stored_iso: Path | None = None  # the newest stored image: no package may be older than in it
    allow_expired: bool = False


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """An image that was built."""

    path: Path
    sha256: str
    version: str


@dataclass(frozen=True, slots=True)
class _ChosenPackages:
    """The packages of an image; the kernel's is among `root`."""

    root: list[Package]
    medium: list[Package]
    kernel: Package
    suites: tuple[Suite, ...]

    @property
    def version(self) -> str:
        """The version of the image: Docker's and Linux's."""
        docker = next(package for package in self.root if package.name == "docker.io")
        return f"{_upstream(docker.version)}-{_upstream(self.kernel.version)}"

    @property
    def all(self) -> list[Package]:
        return [*self.root, *self.medium]


@dataclass(frozen=True, slots=True)
class UnpackedPackages:
    """The content of the packages; no file in the image is newer than `mtime` (Unix time)."""

    root: Tree
    medium: Tree
    mtime: int


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """All that an image is made of, downloaded and verified."""

    request: BuildRequest
    recipe: Recipe
    chosen: _ChosenPackages
    cache: Cache

    @property
    def fingerprint(self) -> str:
        """A hash that is equal for plans that give the same image."""
        return fingerprint.fingerprint(self.request.recipe, self.chosen.all, self.chosen.suites)


def build_image(request: BuildRequest, reporter: Reporter) -> BuiltImage:
    """Build the image at `request.output`, with its manifest beside it, or nothing. Raises B2dError.

    The same packages from the same indexes give the same bytes.
    """
    return assemble_image(plan_build(request, reporter), reporter)


def plan_build(request: BuildRequest, reporter: Reporter) -> BuildPlan:
    """Choose the newest packages and download those that are missing.

    Raises B2dError, and StaleIndexError where newer packages may exist.
    """
    if request.architecture not in recipe.ARCHITECTURES:
        known = ", ".join(recipe.ARCHITECTURES)
        raise ConfigError(f"images for {request.architecture} are not supported yet", hint=f"--arch {known}")
    image_recipe = recipe.read(request.recipe)
    with _translated_os_errors(request.output):
        cache = Cache(private_folder(request.cache / "packages"))
        chosen = _fetch(image_recipe, request, cache, reporter)
        cache.drop_old(time.time(), {package.file.sha256 for package in chosen.all})
        return BuildPlan(request, image_recipe, chosen, cache)


def assemble_image(plan: BuildPlan, reporter: Reporter) -> BuiltImage:
    """Build the image from downloaded packages. Raises B2dError."""
    request = plan.request
    with _translated_os_errors(request.output):
        unpacked = unpack_packages(plan, reporter)
        private_folder(request.output.parent)
        with TemporaryDirectory(dir=request.output.parent, prefix=".b2d-") as work:
            return _assemble(plan, unpacked, Path(work), reporter)


def _assemble(plan: BuildPlan, unpacked: UnpackedPackages, work: Path, reporter: Reporter) -> BuiltImage:
    request, chosen = plan.request, plan.chosen
    trees = (unpacked.root, unpacked.medium)
    info = manifest.ImageInfo(chosen.version, request.architecture, unpacked.mtime, chosen.suites)
    content = manifest.describe(info, chosen.all, trees)
    files = compose_files(plan, unpacked, work, reporter)
    files["/b2d/manifest.json"] = manifest.render(content)
    files["/b2d/image.json"] = _image_json(chosen, plan.recipe, files)
    path = work / "b2d.iso"
    with reporter.step("writing the ISO"):
        iso_writer.write(files, f"b2d-v{chosen.version}", unpacked.mtime, path)
        sha256 = hash_of(path)
    write_atomic(manifest_path(request.output), manifest.render(content), 0o644)
    path.replace(request.output)
    return BuiltImage(request.output, sha256, chosen.version)


def compose_files(
    plan: BuildPlan, unpacked: UnpackedPackages, work: Path, reporter: Reporter
) -> dict[str, bytes | Path]:
    """Return the ISO's files by absolute path: kernel, initramfs, boot loader and root file system. Raises B2dError.

    Large ones are in the folder `work`.
    """
    files = _kernel(plan.recipe, unpacked, reporter) | _boot_loader(plan.recipe, unpacked.medium)
    return files | _root(plan.recipe, unpacked, work, reporter)


@contextmanager
def _translated_os_errors(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = "make room, then try again" if error.errno == errno.ENOSPC else ""
        raise B2dError(
            f"{error.filename2 or error.filename or output}: {error.strerror or error}", hint=hint
        ) from error


def manifest_path(iso: Path) -> Path:
    """Return the path of an image's manifest."""
    return iso.with_name(iso.name + ".manifest.json")


def _fetch(image_recipe: Recipe, request: BuildRequest, cache: Cache, reporter: Reporter) -> _ChosenPackages:
    """Choose and download the packages from the first mirror that gives what Debian signed.

    Indexes that may be stale are used only where no mirror gives better ones, and `allow_expired` permits it.
    """
    last_seen = freshness.read_dates(request.dates) if request.dates else {}
    stored_versions = manifest.read_versions(request.stored_iso, image_recipe.suite) if request.stored_iso else {}
    try:
        chosen = _fetch_from_any(image_recipe, request, cache, Freshness(last_seen, stored_versions), reporter)
    except DownloadError:
        if not request.allow_expired:
            raise
        chosen = _fetch_from_any(
            image_recipe, request, cache, Freshness(last_seen, stored_versions, allow_expired=True), reporter
        )
    if request.dates:
        freshness.record_dates(request.dates, chosen.suites)
    return chosen


def _fetch_from_any(
    image_recipe: Recipe, request: BuildRequest, cache: Cache, freshness_rules: Freshness, reporter: Reporter
) -> _ChosenPackages:
    """Try the mirrors in order. Raises the StaleIndexError of one that answers, else the last failure."""
    mirrors = mirror.choose(request.mirror, image_recipe.mirrors)
    failures: list[DownloadError] = []
    for candidate in mirrors:
        try:
            with reporter.step(f"reading the index of {candidate.name}"):
                available = apt_repository.read_packages(
                    image_recipe, candidate, request.architecture, cache, reporter, freshness_rules
                )
            chosen = _choose(image_recipe, available)
            freshness_rules.check_versions(
                manifest.versions_by_name((package.name, package.version) for package in chosen.all), reporter
            )
            fetch_all([package.file for package in chosen.all], cache, reporter, "packages")
            return chosen
        except DownloadError as failure:
            failures.append(failure)
            if candidate is not mirrors[-1]:
                reporter.warn(f"{failure.message}: trying the next mirror")
    raise next((failure for failure in failures if isinstance(failure, StaleIndexError)), failures[-1])


def _choose(image_recipe: Recipe, available: PackageIndex) -> _ChosenPackages:
    (meta,) = apt_repository.choose([image_recipe.kernel_package], available.packages)
    (kernel,) = apt_repository.choose([apt_repository.kernel_package(meta)], available.packages)
    return _ChosenPackages(
        root=[kernel, *apt_repository.choose(image_recipe.root_packages, available.packages)],
        medium=apt_repository.choose(image_recipe.medium_packages, available.packages),
        kernel=kernel,
        suites=available.suites,
    )


def unpack_packages(plan: BuildPlan, reporter: Reporter) -> UnpackedPackages:
    """Return the content of the downloaded packages, without what no image needs. Raises B2dError."""
    chosen, cache = plan.chosen, plan.cache
    tree, medium = Tree(), Tree()
    with reporter.step("unpacking the packages"):
        times = [unpack(cache.path(package.file.sha256), package.name, tree, _is_useful) for package in chosen.root]
        times += [
            unpack(cache.path(package.file.sha256), package.name, medium, _is_boot_loader) for package in chosen.medium
        ]
    return UnpackedPackages(tree, medium, max(times))


def _is_useful(path: str) -> bool:
    """Return False for files that no image needs and of which packages have many."""
    if path.startswith(("usr/share/doc/", "usr/share/man/", "usr/share/locale/")):
        return path.endswith("/copyright")
    return not path.startswith("boot/System.map")


def _is_boot_loader(path: str) -> bool:
    return path == ISOLINUX or path.startswith(f"{SYSLINUX_MODULES}/") or path.endswith("/copyright")


def _kernel(image_recipe: Recipe, unpacked: UnpackedPackages, reporter: Reporter) -> dict[str, bytes | Path]:
    """Return the kernel and the initramfs; leave only the modules of the recipe in the root file system."""
    tree = unpacked.root
    kernel = next((path for path, _ in tree if path.startswith("boot/vmlinuz-")), None)
    if kernel is None:
        raise B2dError("the kernel package contains no kernel")
    with reporter.step("choosing kernel modules"):
        modules = Modules(Tree(dict(tree.nodes)), kernel.removeprefix("boot/vmlinuz-"))
        tree.remove(f"{modules.folder}*")
        install(
            modules,
            modules.with_dependencies((*image_recipe.modules, *image_recipe.stage1.all_modules)),
            tree,
        )
        first = initramfs.compose(image_recipe, tree[image_recipe.busybox].content, modules)
        initrd = zstandard.ZstdCompressor(level=INITRD_LEVEL).compress(cpio.pack(first, unpacked.mtime))
    return {"/boot/vmlinuz": tree[kernel].content, "/boot/initrd": initrd}


def _root(image_recipe: Recipe, unpacked: UnpackedPackages, work: Path, reporter: Reporter) -> dict[str, bytes | Path]:
    """Return the root file system, as small as this host can make it."""
    rootfs.compose(unpacked.root, image_recipe)
    if squashfs.is_available():
        path, pack = work / "root.squashfs", squashfs.pack
    else:
        path, pack = work / "root.cpio.gz", squashfs.pack_cpio
        reporter.warn(
            f"{squashfs.PROGRAM} is not installed (b2d doctor --fix installs it): the image is larger, "
            "and all of it is loaded into the machine's memory"
        )
    with reporter.step("compressing the root file system"):
        pack(unpacked.root, unpacked.mtime, path)
    return {f"/b2d/{path.name}": path}


def _boot_loader(image_recipe: Recipe, medium: Tree) -> dict[str, bytes | Path]:
    lines = ("default b2d", "label b2d", "kernel /boot/vmlinuz", "initrd /boot/initrd")
    configuration = "\n".join((*lines, f"append {image_recipe.kernel_arguments}", ""))
    return {
        "/isolinux/isolinux.bin": medium[ISOLINUX].content,
        "/isolinux/ldlinux.c32": medium[f"{SYSLINUX_MODULES}/ldlinux.c32"].content,
        "/isolinux/isolinux.cfg": configuration.encode(),
    }


def _image_json(chosen: _ChosenPackages, image_recipe: Recipe, files: dict[str, bytes | Path]) -> bytes:
    """Return how a hypervisor boots the image without its boot loader; boot_files.py reads it."""
    description = {
        "format": 1,
        "version": chosen.version,
        "suites": [suite._asdict() for suite in chosen.suites],
        "kernel": "/boot/vmlinuz",
        "initrd": "/boot/initrd",
        "root": next(path for path in files if path.startswith("/b2d/root.")),
        "arguments": image_recipe.kernel_arguments,
    }
    return (json.dumps(description, indent=1) + "\n").encode()


def _upstream(version: str) -> str:
    """Return a package's version without Debian's own part: 26.1.5 of 26.1.5+dfsg1-9+b1."""
    return version.rpartition(":")[2].partition("-")[0].partition("+")[0]
