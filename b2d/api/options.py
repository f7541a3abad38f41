"""The keyword arguments of the API, for type checkers."""

from typing import TypedDict


class MachineOptions(TypedDict, total=False):
    """The settings, which docs/commands.md explains."""

    driver: str
    memory: int
    cpus: int
    disk: int
    tls: bool
    address: str
    ssh_port: int
    docker_port: int
    image: str
    mirror: str
    restrict: bool
    share: list[str] | tuple[str, ...]
    privileged_ports: bool
    mount_type: str
    ssh_password: bool
    password: str
    host_loopback: bool
    wait: int
    stop_wait: int
    accelerator: str
    templates: int
    uncompressed_boot: bool
    proxies: bool
    http_proxy: str
    https_proxy: str
    no_proxy: str
    ca: list[str] | tuple[str, ...]
    registry_mirrors: list[str] | tuple[str, ...]
    insecure_registries: list[str] | tuple[str, ...]
    dns: list[str] | tuple[str, ...]
    vboxapi: str


class MachineChanges(TypedDict, total=False):
    """The settings of an existing machine that can be changed."""

    memory: int
    cpus: int
    disk: int
    ssh_port: int
    docker_port: int
    share: list[str] | tuple[str, ...]
