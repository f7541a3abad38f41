"""The interfaces between a machine's verbs and the home that the machine belongs to."""

from collections.abc import Mapping
from typing import Protocol

from b2d.drivers.base import Driver
from b2d.guest.base import Dial, Guest
from b2d.image.base import ImageLookup
from b2d.machine_store.store import MachineStore
from b2d.models import Access, Endpoint, MachineSpec
from b2d.paths import MachinePaths
from b2d.reporting.base import Reporter


class MachineServices(Protocol):
    """The parts of one home that a machine's verbs use; `app.wiring.App` has them all."""

    @property
    def store(self) -> MachineStore:
        """The machines of this home on disk."""

    @property
    def images(self) -> ImageLookup:
        """The images of this home."""

    @property
    def reporter(self) -> Reporter:
        """The reporter, which prints messages on stderr."""

    @property
    def access(self) -> Access:
        """Who may log in to a guest that boots now."""

    @property
    def wait_s(self) -> float:
        """How long `up` may take, in seconds."""

    @property
    def stop_wait_s(self) -> float:
        """How long the guest has to power itself off, in seconds."""

    def driver(self, spec: MachineSpec) -> Driver:
        """Return the hypervisor of a machine. Raises ConfigError for one that b2d cannot drive."""

    def guest(self, endpoint: Endpoint, paths: MachinePaths, dial: Dial | None) -> Guest:
        """Return the guest of a running machine; it connects on first use."""

    def unknown_guest(self, endpoint: Endpoint, paths: MachinePaths, dial: Dial | None, greeting_s: float) -> Guest:
        """Return the guest of a machine that this home has just started, which may be another project's.

        It connects by boot2docker's password where the machine's key is not admitted, and records an unknown host key.
        Its SSH server has `greeting_s` seconds to greet.
        """

    def guest_network(self, spec: MachineSpec) -> Mapping[str, bytes]:
        """Return the network files for a guest that boots now. Raises ConfigError."""


class SpecSource(Protocol):
    """The description of a machine to be created: the settings, or an imported machine."""

    def new_machine_spec(self) -> MachineSpec:
        """Return the spec without an image. Raises ConfigError."""

    def with_image(self, spec: MachineSpec) -> MachineSpec:
        """Return the spec with an image, downloaded or built if there is none; likewise for a disk. Raises B2dError.

        This may take minutes: the caller has checked before that the machine could start on this host.
        """
