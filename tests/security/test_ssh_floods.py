"""A guest's SSH server that exceeds its window is disconnected before this host's memory is full."""

import threading
import time
from contextlib import suppress
from pathlib import Path

import paramiko
import pytest
from paramiko.common import cMSG_CHANNEL_DATA, cMSG_CHANNEL_EXTENDED_DATA

from b2d.errors import B2dError
from b2d.guest.ssh import connection
from b2d.guest.ssh.client import SshGuest
from b2d.models import Endpoint
from tests.support import ssh_server

PIECE = b"x" * 30_000


@pytest.mark.parametrize("kind", ["stdout", "stderr"])
def test_data_beyond_the_window_is_not_stored_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    paths, sent = ssh_server.machine(tmp_path), [0]

    def begin(_: object, channel: paramiko.Channel, __: object) -> bool:
        def flood() -> None:
            with suppress(Exception):
                while sent[0] < 200 << 20 and channel.get_transport().is_active():
                    message = paramiko.Message()
                    message.add_byte(cMSG_CHANNEL_DATA if kind == "stdout" else cMSG_CHANNEL_EXTENDED_DATA)
                    message.add_int(channel.remote_chanid)
                    if kind == "stderr":
                        message.add_int(1)
                    message.add_string(PIECE)
                    channel.get_transport()._send_user_message(message)  # type: ignore[attr-defined]
                    sent[0] += len(PIECE)

        threading.Thread(target=flood, daemon=True).start()
        return True

    monkeypatch.setattr(ssh_server._Session, "_begin", begin)
    with ssh_server.guest_of(paths).running() as at, SshGuest(Endpoint("127.0.0.1", at.port, 0), paths) as guest:
        channel = guest._channel()
        channel.exec_command("cat")
        end = time.monotonic() + 20
        while channel.get_transport().is_active() and time.monotonic() < end:
            time.sleep(0.05)
        held = len(channel.in_buffer) + len(channel.in_stderr_buffer)
        assert connection.UNREAD_LIMIT < held < connection.UNREAD_LIMIT + (1 << 20)
        assert not channel.get_transport().is_active()
    assert sent[0] < 100 << 20


MOST = 1 << 25


def test_the_output_of_a_command_that_is_read_may_be_large(tmp_path: Path) -> None:
    paths = ssh_server.machine(tmp_path)
    with ssh_server.guest_of(paths).running() as at, SshGuest(Endpoint("127.0.0.1", at.port, 0), paths) as guest:
        assert len(guest.run("head -c 20000000 /dev/zero", 60, MOST).stdout) == 20_000_000
        with suppress(B2dError):
            guest.run("head -c 20000000 /dev/zero >&2", 60, MOST)
