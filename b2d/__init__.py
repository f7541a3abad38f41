"""One command to a Docker host in a tiny Linux that runs from RAM: a modern boot2docker."""

TYPE_CHECKING = False  # as in the module typing, which is slow to import
if TYPE_CHECKING:
    from b2d._version import __version__
    from b2d.api.machine import Machine
    from b2d.errors import B2dError

__all__ = ["B2dError", "Machine", "__version__"]


def __getattr__(name: str) -> object:
    """Import the public names on first use, as the fast path of __main__ imports this module too."""
    if name == "Machine":
        from b2d.api import machine

        return machine.Machine
    if name == "B2dError":
        from b2d import errors

        return errors.B2dError
    if name == "__version__":
        from b2d import _version

        return _version.__version__
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
