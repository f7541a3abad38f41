"""Fuzzing of parsers: damaged data, a share of the time for each target, and a memory limit.

Without anything set all of them take about 60 seconds together, with the same data each time. For a longer run, set
B2D_TEST_FUZZ_SECONDS to the seconds for all of them together, and B2D_TEST_FUZZ_SEED to another number than 0 for other
data; `-s` shows how many inputs each had:

    B2D_TEST_FUZZ_SECONDS=3600 B2D_TEST_FUZZ_SEED=7 python -m pytest -s tests/security/test_fuzz_*.py
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

TARGETS = 44  # calls of fuzz()
SECONDS = float(os.environ.get("B2D_TEST_FUZZ_SECONDS", "60"))
FIRST_SEED = int(os.environ.get("B2D_TEST_FUZZ_SEED", "0"))
SHARE_S = SECONDS / TARGETS
ROUND = 40  # examples
BUSIEST_S = (
    10  # CPU seconds for one example and the programs that it starts: other tests may use the CPU at the same time
)
SLOWEST = timedelta(seconds=60)  # for one example that hangs without using the CPU
MEMORY = 1 << 30  # bytes that a target may allocate in addition: decoders have a limit of 256 MiB of their own
ODD = [b"\xff" * 2, b"\xff" * 4, b"\xff" * 8, bytes(2), bytes(4), bytes(8), b"\x7f" + b"\xff" * 7, b"\x80" + bytes(7)]
ODD += [
    b"\1",
    b"\1\0\0\0",
    b"\0\0\0\1",
    b"\xff\xff\xff\x7f",
    b"9" * 30,
    b"-1",
    b"../",
    b"\n",
    b"\0",
    b"[" * 2000,
    b"\xc3\x28",
]


def fuzz(inputs: st.SearchStrategy[Any], check: Callable[[Any], None], known: Sequence[Any] = ()) -> None:
    """Check each of the `known` failures once, then random inputs until this target's share of the time is used up."""
    begin, number, tried = time.monotonic(), FIRST_SEED * 1_000_000, 0

    def one_more(example: Any) -> None:
        nonlocal tried
        tried += 1
        before = sum(os.times()[:4])
        check(example)
        assert sum(os.times()[:4]) - before < BUSIEST_S, repr(example)[:200]

    with little_memory():
        for example in known:
            began = time.monotonic()
            one_more(example)
            assert time.monotonic() - began < SLOWEST.total_seconds(), repr(example)[:200]
        while True:
            _round(inputs, one_more, number)
            number += 1
            if time.monotonic() - begin > SHARE_S:
                break
    print(f"fuzzed: {check.__qualname__.partition('.')[0]}: {tried} inputs in {time.monotonic() - begin:.0f} s")


def _round(inputs: st.SearchStrategy[Any], check: Callable[[Any], None], number: int) -> None:
    @seed(number)
    @settings(
        max_examples=ROUND,
        deadline=SLOWEST,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    @given(inputs)
    def examples(example: Any) -> None:
        check(example)

    examples()


@contextmanager
def little_memory() -> Iterator[None]:
    """Limit this process to MEMORY more bytes in the block; beyond it comes MemoryError, which no parser may leak."""
    if sys.platform != "linux":
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def damaged(*samples: bytes, hot: tuple[tuple[int, int], ...] = ()) -> st.SearchStrategy[bytes]:
    """Draw a valid sample with some bytes changed, mostly in the `hot` ranges, and possibly cut off."""

    def of(sample: bytes) -> st.SearchStrategy[bytes]:
        ranges = [(begin, min(end, len(sample))) for begin, end in hot if begin < len(sample)] or [(0, len(sample))]
        offset = st.one_of([st.integers(begin, max(begin, end - 1)) for begin, end in ranges])
        patch = st.tuples(offset, st.one_of(st.sampled_from(ODD), st.binary(min_size=1, max_size=8)), st.booleans())
        cut = st.one_of(st.none(), st.none(), st.none(), offset)
        return st.tuples(st.lists(patch, max_size=8), cut).map(lambda changes: _patched(sample, *changes))

    return st.integers(0, len(samples) - 1).flatmap(lambda number: of(samples[number]))  # hypothesis prints its input


def _patched(sample: bytes, patches: list[tuple[int, bytes, bool]], cut: int | None) -> bytes:
    content = bytearray(sample)
    for offset, new, inserted in patches:
        content[offset : offset if inserted and len(sample) < 100_000 else offset + len(new)] = new
    return bytes(content[:cut])


@contextmanager
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="b2d-fuzz-"))
    try:
        yield path
    finally:
        subprocess.run(["chmod", "-R", "u+rwX", str(path)], check=False)
        shutil.rmtree(path)


DEEP = "@deep@"
TEXTS = [
    "",
    "\0",
    "../../x",
    "/",
    "\ud800",
    "\udcff",
    "a\nb",
    "127.0.0.1\n",
    "\x1b[2J",
    "\u0663",
    "1_0",
    "9" * 5000,
    "x" * 5000,
]
NUMBERS = [0, -1, 1, 65535, 65536, 1 << 31, 1 << 63, 10**30, 10**400, True, 0.5, 1e300, float("inf"), float("nan")]
HOSTILE: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.sampled_from(NUMBERS), st.integers(), st.sampled_from([*TEXTS, DEEP]), st.text(max_size=6)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["id", "x"]), inner)),
    max_leaves=6,
)


def bent(sample: Any) -> st.SearchStrategy[bytes]:
    """Draw a valid JSON document with values changed or missing, and with endless numbers or nesting."""
    change = st.tuples(st.lists(st.integers(0, 30), max_size=4), st.booleans(), HOSTILE)
    documents = st.tuples(st.lists(change, max_size=3), st.integers(1, 1100)).map(
        lambda changes: _bent(sample, *changes)
    )
    return st.one_of(documents, documents, documents, damaged(json.dumps(sample).encode()))


def _bent(sample: Any, changes: list[tuple[list[int], bool, Any]], depth: int) -> bytes:
    document = json.loads(json.dumps(sample))
    for way, missing, value in changes:
        document = _changed(document, way, missing, value)
    return dumped(document, depth)


def _changed(document: Any, way: list[int], missing: bool, value: Any) -> Any:
    if not way or not isinstance(document, list | dict) or not document:
        return value
    keys = list(document) if isinstance(document, dict) else list(range(len(document)))
    key = keys[way[0] % len(keys)]
    if missing and len(way) == 1:
        del document[key]
    else:
        document[key] = _changed(document[key], way[1:], missing, value)
    return document


def dumped(document: Any, depth: int = 100) -> bytes:
    """Return the document as JSON; DEEP in it becomes a deeply nested list."""
    return json.dumps(document).encode().replace(f'"{DEEP}"'.encode(), b"[" * depth + b"]" * depth)
