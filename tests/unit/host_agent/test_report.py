"""The refusals of an agent are reported by that agent only; any other file there counts as no report."""

import json
import os
from pathlib import Path

import pytest

from b2d.host_agent.report import SSH, Refusal, read, write
from b2d.models import ProcessIdentity

AGENT = ProcessIdentity(7, "8", "9")
TAKEN = Refusal(SSH, "127.0.59.103:2022", "nc, pid 5 uses that port")


@pytest.mark.parametrize("refusals", [(), (TAKEN,), (TAKEN, Refusal("a", "/tmp/\udcff", "b"))])
def test_a_report_is_read_back_as_written(tmp_path: Path, refusals: tuple[Refusal, ...]) -> None:
    path = tmp_path / "agent.json"
    write(path, AGENT, refusals)
    assert read(path, AGENT) == refusals
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_report_of_an_earlier_agent_is_ignored(tmp_path: Path) -> None:
    write(tmp_path / "agent.json", AGENT, ())
    assert read(tmp_path / "agent.json", AGENT._replace(start_time="later")) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b"[]",
        b'{"agent": 1, "refusals": []}',
        b'{"refusals": []}',
        json.dumps({"agent": AGENT._asdict(), "refusals": 1}).encode(),
        json.dumps({"agent": AGENT._asdict(), "refusals": ["x"]}).encode(),
        json.dumps({"agent": AGENT._asdict(), "refusals": [{"service": 1, "place": "", "reason": ""}]}).encode(),
        json.dumps({"agent": AGENT._asdict(), "refusals": [TAKEN._asdict() | {"more": ""}]}).encode(),
    ],
)
def test_an_invalid_report_counts_as_missing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "agent.json").write_bytes(content)
    assert read(tmp_path / "agent.json", AGENT) is None


def test_a_special_file_counts_as_missing(tmp_path: Path) -> None:
    assert read(tmp_path / "agent.json", AGENT) is None
    os.mkfifo(tmp_path / "agent.json")
    assert read(tmp_path / "agent.json", AGENT) is None


def test_its_sentence_contains_the_service_the_endpoint_and_the_reason() -> None:
    assert TAKEN.sentence("box") == "SSH of box is not available at 127.0.59.103:2022: nc, pid 5 uses that port"
