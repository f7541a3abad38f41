"""Parsers of foreign files and streams, fed with damaged data: they raise their own error, end soon, and write
nothing outside (see fuzzing.py for longer runs).
"""

import io
import json
import struct
import subprocess
import tarfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from b2d.config import boot2docker_profile, loader
from b2d.docker.client import DockerApi, DockerUnavailableError
from b2d.docker.published_ports import forwards_for, list_ports, parse_publications
from b2d.drivers.qemu import qcow2
from b2d.drivers.qemu.disk_import import _files, _parse_object
from b2d.errors import B2dError, ConfigError, ImageError
from b2d.formats import boot2docker_disk, bzimage_uncompressed, vbox_settings
from b2d.formats.bzimage import DamagedKernelError, vmlinux
from b2d.formats.bzimage_uncompressed import UnfitKernelError
from b2d.formats.disk_image import inspect
from b2d.formats.disk_reading import DiskImageError
from b2d.formats.iso9660 import announced_size, has_few_records, read_volume
from b2d.guest.readiness import engine, find_problems, parse_stages, ping
from b2d.image import boot_files
from b2d.image.build import apt_repository, deb, signature
from b2d.image.build.fs_tree import Tree
from b2d.image.build.mirror import Mirror
from b2d.image.build.recipe import Archive
from b2d.paths import Home
from tests.integration.guest.test_readiness import server
from tests.security.evil_disks import image
from tests.security.fuzzing import SHARE_S, damaged, folder, fuzz
from tests.security.test_copied_archives import fetch
from tests.security.test_decompression import package, tar_of
from tests.support import foreign_machines
from tests.support.kernel_images import a_b2d_iso, a_bzimage, an_elf, an_iso, pack

pytestmark = pytest.mark.timeout(SHARE_S * 2 + 240)


def test_the_first_sectors_of_an_iso(tmp_path: Path) -> None:
    path = tmp_path / "x.iso"

    def check(content: bytes) -> None:
        path.write_bytes(content)
        for read in (read_volume, announced_size):
            with suppress(ImageError):
                read(path)
        has_few_records(path)

    fuzz(damaged(an_iso()[:40_000], hot=((0, 600), (32768, 32768 + 200))), check)


def test_an_iso_of_b2d_during_unpacking() -> None:
    def check(content: bytes) -> None:
        with folder() as work:
            paths = Home(work).image("0" * 64)
            paths.folder.mkdir(parents=True)
            paths.iso.write_bytes(content)
            with suppress(ImageError):
                boot_files.unpack(paths)
            assert {path for path in work.rglob("*") if path.is_file()} <= {paths.iso, paths.kernel, paths.initrd}

    iso = a_b2d_iso()
    fuzz(damaged(iso, hot=((32768, 32768 + 4096), (36864, len(iso)), (36864, 36864 + 16384))), check)


@cache
def disk(name: str, kind: str, *options: str) -> bytes:
    with folder() as work:
        return image(work, name, kind, *options).read_bytes()


def check_disk(content: bytes) -> None:
    """Assert that an accepted disk references no other file, according to qemu-img."""
    try:
        disk_info = inspect(io.BytesIO(content), child=False)
    except DiskImageError:
        return
    with folder() as work:
        path = work / "disk"
        path.write_bytes(content)
        command = ["qemu-img", "info", "--output=json", "-f", disk_info.format, str(path)]
        completed = subprocess.run(command, capture_output=True, timeout=30, check=False)
        if completed.returncode == 0:
            assert set(_files(_parse_object(completed.stdout))) <= {str(path)}


def test_the_header_of_a_qcow2() -> None:
    samples = [disk("d", "qcow2")[: 1 << 17], disk("d", "qcow2", "compat=0.10")[: 1 << 17]]
    fuzz(damaged(*samples, hot=((0, 120), (0, 600))), check_disk)


def test_the_header_and_the_descriptor_of_a_vmdk() -> None:
    samples = [disk("d", "vmdk"), disk("d", "vmdk", "subformat=streamOptimized")]
    fuzz(damaged(*samples, hot=((0, 80), (512, 1100))), check_disk)


def test_the_headers_of_vdi_vhd_and_vhdx() -> None:
    vdi, vhd, vhdx = disk("d", "vdi"), disk("d", "vpc"), disk("d", "vhdx")
    fuzz(damaged(vdi, vhd, hot=((0, 600), (512, 1300))), check_disk)
    metadata = vhdx.index(b"metadata")
    begin = vhdx[: metadata + (1 << 20)]

    def check_begin(content: bytes) -> None:
        check_disk(content + bytes(len(vhdx) - len(begin)))  # zeros, as in the complete one

    fuzz(
        damaged(begin, hot=((196608, 196700), (262144, 262240), (metadata, metadata + 200))),
        check_begin,
    )


def test_the_internal_snapshots_of_a_qcow2(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(disk("d", "qcow2"))
    subprocess.run(["qemu-img", "snapshot", "-c", "one", str(path)], check=True)
    whole = path.read_bytes()
    table = struct.unpack_from(">Q", whole, 64)[0]
    # a thousand snapshots whose tables share one offset
    listed = struct.pack(qcow2.ENTRY, 1 << 16, 1 << 14, 0, 0, 0, 0) * 1000
    many = bytearray(whole[:512] + listed).ljust(1 << 16, b"\0") + struct.pack(">Q", 1 << 16) * (1 << 14)
    many[20:24], many[60:72] = struct.pack(">I", 21), struct.pack(">IQ", 1000, 512)

    def check(content: bytes) -> None:
        path.write_bytes(content)
        assert len(qcow2.read_snapshots(path)) <= 1 << 16
        assert qcow2.read_size(path) >= 0
        assert not qcow2.contains_only(path, b"payload")

    fuzz(damaged(whole, hot=((0, 120), (table, table + 80))), check, [bytes(many)])


def test_the_recognition_of_a_boot2docker_disk() -> None:
    begin = bytearray(4096)
    begin[510:512], begin[512:520] = b"\x55\xaa", b"EFI PART"
    begin[512 + 72 : 512 + 88] = struct.pack("<QII", 2, 128, 128)

    def check(content: bytes) -> None:
        sizes: list[int] = []

        def read(offset: int, size: int) -> bytes:
            sizes.append(size)
            return content[offset : offset + size]

        assert boot2docker_disk.is_ours(read) in (True, False)
        assert sum(sizes) < 4 << 20

    fuzz(damaged(bytes(begin), bytes(begin[:512]), hot=((440, 512), (512, 620))), check)


def test_a_settings_file_of_virtualbox(tmp_path: Path) -> None:
    path = tmp_path / "x.vbox"
    samples = [
        foreign_machines.settings("box", "x.vmdk", layers=layers, seven=layers).encode() for layers in (False, True)
    ]

    def check(content: bytes) -> None:
        path.write_bytes(content)
        with suppress(B2dError):
            vbox_settings.read(path)

    fuzz(damaged(*samples), check)


def an_archive() -> list[bytes]:
    archives = []
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        written = io.BytesIO()
        with tarfile.open(fileobj=written, mode="w", format=form) as tar:
            for name, kind in (
                ("x", b"5"),
                ("x/file", b"0"),
                ("x/link", b"2"),
                ("x/hard", b"1"),
                ("x/" + "n" * 150, b"0"),
            ):
                entry = tarfile.TarInfo(name)
                entry.type, entry.size = kind, 4 if kind == b"0" else 0
                entry.linkname = "x/file" if kind == b"1" else "file"
                tar.addfile(entry, io.BytesIO(b"data"))
        archives.append(written.getvalue())
    return archives


def test_the_archive_sent_by_a_guest_for_cp() -> None:
    def check(content: bytes) -> None:
        with folder() as work:
            (work / "to").mkdir()
            (work / "file").write_text("mine")
            with suppress(B2dError):
                fetch(work / "to", b"1\n" + content)
            assert (work / "file").read_text() == "mine"
            assert {path.name for path in work.iterdir()} == {"to", "file"}
            assert {path.name for path in (work / "to").iterdir()} <= {"x"}

    fuzz(damaged(*an_archive(), hot=((0, 512), (512, 1024), (1536, 4096))), check)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just(80)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["Names", "Id", "Ports", "PublicPort", "PrivatePort", "Type", "IP", "x"]), inner, max_size=6
        ),
    ),
    max_leaves=30,
)


def test_docker_s_list_of_containers() -> None:
    port = st.fixed_dictionaries(
        {"PrivatePort": st.one_of(JSON, st.just(80)), "PublicPort": st.one_of(JSON, st.integers(1, 65535))},
        optional={"Type": st.one_of(JSON, st.just("tcp")), "IP": st.one_of(JSON, st.sampled_from(["::", "127.0.0.1"]))},
    )
    container = st.fixed_dictionaries({"Ports": st.one_of(JSON, st.lists(port, max_size=4))}, optional={"Names": JSON})

    def check(containers: list[dict[str, Any]]) -> None:
        publications = parse_publications(containers)
        assert all(0 < entry.port < 65536 and entry.protocol in ("tcp", "udp", "sctp") for entry in publications)
        list_ports(
            publications,
            "127.0.59.103",
            [entry for each in publications for entry in forwards_for(each, "127.0.59.103")],
            lambda _: "",
        )

    fuzz(st.lists(container, max_size=4), check)


def test_docker_responses_over_http() -> None:
    ports = [{"Names": ["/x"], "Ports": [{"PrivatePort": 80, "PublicPort": 8080, "Type": "tcp", "IP": "::"}]}]
    body = json.dumps(ports).encode()
    head = b"HTTP/1.1 200 OK\r\nApi-Version: 1.45\r\nDate: Tue, 24 Nov 2026 12:00:00 GMT\r\n"
    samples = [
        head + b"Content-Length: %d\r\n\r\n" % len(body) + body,
        head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n",
    ]
    response = [b""]

    def answer(connection: Any) -> None:
        connection.recv(4096)
        connection.sendall(response[0])
        connection.close()

    with server(answer) as port:
        api = DockerApi("127.0.0.1", port, None)

        def check(content: bytes) -> None:
            response[0] = content
            ping(api, 2)
            engine(api, 2)
            with suppress(DockerUnavailableError):
                parse_publications(api.containers(2))
            with suppress(DockerUnavailableError):
                for _ in api.changes(2):
                    pass

        fuzz(damaged(*samples, hot=((0, 200),)), check)


def test_the_console_of_a_guest() -> None:
    sample = b"[    0.1] noise\r\nb2d: 2.50 kernel\r\nb2d: 3.10 root\nb2d: warn no disk\nb2d: fail why\nb2d: 4 net\n"

    def check(content: bytes) -> None:
        parse_stages(content.decode(errors="replace"))
        find_problems(content.decode(errors="replace"))

    fuzz(damaged(sample), check)


def test_the_indexes_of_debian_s_archive() -> None:
    release = (
        b"Origin: Debian\nCodename: trixie\nDate: Sat, 15 Nov 2026 10:00:00 UTC\n"
        b"Valid-Until: Sat, 22 Nov 2026 10:00:00 UTC\nSHA256:\n " + b"a" * 64 + b" 1234 main/binary-amd64/Packages.xz\n"
    )
    stanza = f"Package: linux-image-x\nVersion: 6.12-1\nFilename: pool/x.deb\nSize: 12\nSHA256: {'a' * 64}\n"
    signed = (
        b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n" + release + b"-----BEGIN PGP SIGNATURE-----\n\nxx\n"
    )
    mirror, archive = Mirror({"debian": "http://127.0.0.1"}), Archive("main", "dists/trixie", "debian", True)

    def check(content: bytes) -> None:
        with suppress(ImageError):
            apt_repository._parse_release(content, "http://127.0.0.1")
        with suppress(ImageError):
            signature.verify(content, [], "http://127.0.0.1")
        with suppress(ImageError):
            text = content.decode(errors="replace")
            packages = list(apt_repository._parse(text, mirror, archive, frozenset(("linux-image-x", "x"))))
            sorted(packages, key=apt_repository._version_key)

    fuzz(damaged(release, signed, stanza.encode() * 2), check)


def test_a_boot2docker_profile() -> None:
    sample = b'Memory = 2048\nDiskSize = 20000\nISOURL = "x"\nRetries = 75\nWaitTime = 300\nSSHPort = 2022\nVM = "b"\n'
    words = st.dictionaries(
        st.sampled_from([*boot2docker_profile.SETTINGS, *boot2docker_profile.REASONS, "odd"]), JSON, max_size=5
    )

    def check(example: tuple[bytes, dict[str, object]]) -> None:
        with suppress(ConfigError):
            loader._parse_table("profile", example[0].decode(errors="replace"))
        boot2docker_profile.convert_options(boot2docker_profile.profile_settings(example[1], Path("/x")))
        boot2docker_profile.unsupported_options(example[1])

    fuzz(st.tuples(damaged(sample), words), check)


def test_a_kernel() -> None:
    samples = [a_bzimage(pack(an_elf(), form)) for form in ("gzip", "xz", "zstd")]

    def check(contents: tuple[bytes, bytes]) -> None:
        with suppress(DamagedKernelError):
            vmlinux(contents[0])
        with suppress(DamagedKernelError):
            vmlinux(a_bzimage(pack(contents[1], "gzip")))
        with suppress(UnfitKernelError):
            bzimage_uncompressed.uncompressed_kernel(samples[0], contents[1])
        with suppress(UnfitKernelError):
            bzimage_uncompressed.uncompressed_kernel(contents[0], an_elf())

    elf = an_elf()
    known = [
        (samples[0], elf[:21] + b"\xff" * 8 + elf[29:]),
        (b"", elf),
        (samples[0].replace(b"HdrS", b"HdrS")[:600], elf),
    ]
    known += [(samples[0][:0x1F1] + b"\0" + samples[0][0x1F2:], elf)]
    fuzz(
        st.tuples(damaged(*samples, hot=((0x1F0, 0x260), (2700, 2800))), damaged(an_elf(), hot=((0, 300),))),
        check,
        known,
    )


def test_a_debian_package(tmp_path: Path) -> None:
    whole = package(tmp_path, "tar", b"").read_bytes()
    whole = whole.replace(b"data.tar.tar", b"data.tar    ")
    begin = whole[: whole.rindex(b"data.tar")]
    data = tar_of(100)
    sample = begin + f"{'data.tar':<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode() + data

    def check(content: bytes) -> None:
        path = tmp_path / "fuzzed.deb"
        path.write_bytes(content)
        with suppress(ImageError):
            deb.unpack(path, "x", Tree(), lambda _: True)

    fuzz(damaged(sample, hot=((0, len(begin)), (len(begin), len(begin) + 600))), check)
