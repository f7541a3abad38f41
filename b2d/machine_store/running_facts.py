"""The addresses of a running machine, which `up` stores and shellinit and ip print."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from b2d.formats import numbers
from b2d.host import unix_sockets
from b2d.host.process_identity import PID_LIMIT
from b2d.machine_store.spec_json import loopback
from b2d.models import DockerEnv, Endpoint, MachineSpec, ProcessIdentity
from b2d.paths import MachinePaths

if TYPE_CHECKING:
    from b2d.docker.client import DockerApi


class RunningFacts(NamedTuple):
    """The addresses of a running machine: all that shellinit and ip need, so that they ask no driver."""

    address: str
    ssh_port: int
    docker_port: int
    docker: DockerEnv
    process: ProcessIdentity | None = None
    engine_port: int = 0  # dockerd's port by TLS where docker_port is the agent's; 0: docker_port is dockerd's

    def engine(self, certs: Path) -> "DockerApi":
        """Return dockerd's own API at the hypervisor's port; `certs` is the machine's folder of that name."""
        from b2d.docker.client import DockerApi

        by_tls = bool(self.engine_port or self.docker.cert_path)
        return DockerApi(self.address, self.engine_port or self.docker_port, certs if by_tls else None)

    def values(self) -> dict[str, str]:
        """Return the facts as the variables of the file `env`."""
        values = {"address": self.address, "ssh_port": str(self.ssh_port), "docker_port": str(self.docker_port)}
        if self.engine_port:
            values["engine_port"] = str(self.engine_port)
        if self.process is not None:
            values["pid"] = str(self.process.pid)
            values["start_time"] = self.process.start_time
            values["boot_id"] = self.process.boot_id
        return values | self.docker.variables()


def of_machine(
    spec: MachineSpec, paths: MachinePaths, endpoint: Endpoint, process: ProcessIdentity | None
) -> RunningFacts:
    """Return the addresses of a running machine for users and their clients."""
    plain = spec.guarded and not spec.tls  # the agent listens on docker_port and forwards to the engine
    port = spec.docker_port if plain else endpoint.docker_port
    by_socket = plain and unix_sockets.serves(paths.docker_socket)
    host = f"unix://{paths.docker_socket}" if by_socket else f"tcp://{endpoint.address}:{port}"
    return RunningFacts(
        address=endpoint.address,
        ssh_port=spec.ssh_port if spec.guarded else endpoint.ssh_port,
        docker_port=port,
        docker=DockerEnv(host, str(paths.certs) if spec.tls else ""),
        process=process,
        engine_port=endpoint.docker_port if plain else 0,
    )


def parse(values: dict[str, str]) -> RunningFacts:
    """Return the facts of the variables of `env`. Raises ValueError and KeyError for invalid or missing ones."""
    if any("\0" in value for value in values.values()):
        raise ValueError("it contains zero bytes, as after a power cut")
    process = None
    if "pid" in values:
        pid = numbers.whole(numbers.parse(values["pid"], PID_LIMIT - 1), 1, PID_LIMIT)
        process = ProcessIdentity(pid, values["start_time"], values["boot_id"])
    return RunningFacts(
        address=loopback(values["address"]),
        ssh_port=numbers.port(numbers.parse(values["ssh_port"], 65535)),
        docker_port=numbers.port(numbers.parse(values["docker_port"], 65535)),
        docker=DockerEnv(values["DOCKER_HOST"], values.get("DOCKER_CERT_PATH", "")),
        process=process,
        engine_port=numbers.parse(values.get("engine_port", "0"), 65535),
    )
