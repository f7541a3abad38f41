"""The settings and their defaults; apart from models.py, of which `b2d config` needs nothing."""

from typing import NamedTuple

from b2d.machine_names import DEFAULT_NAME


class Settings(NamedTuple):
    """The effective settings, which loader.py merges with their origins. Zero and "" mean "choose"."""

    vm: str = DEFAULT_NAME
    driver: str = "auto"
    memory: int = 2048  # MiB
    cpus: int = 0  # 0: as many as the host has
    disk: int = 20000  # MiB
    tls: bool = True
    address: str = ""  # "": the first free one
    ssh_port: int = 2022
    docker_port: int = 2376
    image: str = "debian"  # a source: debian, boot2docker, a URL or a file
    mirror: str = ""  # "": apt's own, else the list in iso/image.toml
    restrict: bool = False
    # folders shared with the guest at the same path; PATH:ro read-only, PATH/* each visible folder in PATH
    share: tuple[str, ...] = ("~/*",)
    privileged_ports: bool = False  # True: as root, containers' ports below 1024 are forwarded to 127.0.0.1 too
    mount_type: str = "auto"  # how QEMU's machines mount shared folders
    ssh_password: bool = False  # True: SSH accepts the password too
    password: str = ""  # of the guest's user docker; "": tcuser
    host_loopback: bool = True  # False: containers cannot reach services on this host's loopback
    wait: int = 300  # timeout of up, in seconds
    stop_wait: int = 30  # timeout of the guest's own shutdown, in seconds
    accelerator: str = "auto"
    templates: int = 2000  # MiB on this host for the templates of QEMU's machines; 0: every start is a boot
    uncompressed_boot: bool = True  # False: VirtualBox boots the ISO as it is, not its uncompressed copy
    proxies: bool = True  # False: the guest gets no proxy
    http_proxy: str = ""  # "": this host's own variable
    https_proxy: str = ""
    no_proxy: str = ""
    ca: tuple[str, ...] = ()  # files of certificate authorities that the guest trusts too
    registry_mirrors: tuple[str, ...] = ()
    insecure_registries: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()  # (): the hypervisor's own name server, which asks this host's
    vboxapi: str = ""  # the folder of VirtualBox's Python binding; "": the usual places
