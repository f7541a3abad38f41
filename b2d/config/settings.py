"""What can be set, and what it is when nobody set it; apart from model.py, of which `b2d config` needs nothing."""

from dataclasses import dataclass

from b2d.machine_names import DEFAULT_NAME


@dataclass(frozen=True, slots=True)
class Settings:
    """The effective settings; config.py merges them and knows where each came from. Zero and "" mean "choose"."""

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
    share: tuple[str, ...] = (
        "~/*",
    )  # folders that the guest has too, at the same path; PATH:ro read-only, PATH/* each
    privileged_ports: bool = False  # True: as root, containers' ports below 1024 come to 127.0.0.1 too
    mount_type: str = "auto"  # how QEMU's machines have them
    ssh_password: bool = False  # True: over SSH, the password counts too
    password: str = ""  # of the guest's user docker; "": tcuser
    host_loopback: bool = True  # False: containers do not reach what listens on this host's loopback
    wait: int = 300  # seconds that up may take
    stop_wait: int = 30  # seconds that the guest has to power itself off
    accelerator: str = "auto"
    proxies: bool = True  # False: the guest is told of none
    http_proxy: str = ""  # "": what this host's own variable says
    https_proxy: str = ""
    no_proxy: str = ""
    ca: tuple[str, ...] = ()  # files of authorities that the guest trusts too
    registry_mirrors: tuple[str, ...] = ()
    insecure_registries: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()  # (): the hypervisor's own, which asks this host's
    vboxapi: str = ""  # VirtualBox's folder of that name; "": where it usually is
