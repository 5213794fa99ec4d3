"""Small files that would unpack to gigabytes: refused by their header, in no time and memory."""

import struct
import zlib
from time import perf_counter

import httpx
import pytest

from convserve.engine.memory import resident
from tests.artifacts import IMAGE

pytestmark = pytest.mark.anyio
SIDE = 30_000


def chunk(kind: bytes, data: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + checksum


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """A valid black PNG of 900 megapixels, 2.7 GB as RGB, in little more than 100 kB."""
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 1, 0, 0, 0, 0)
    packer, row = zlib.compressobj(9), bytes(1 + SIDE // 8)
    pixels = b"".join(packer.compress(row) for _ in range(SIDE)) + packer.flush()
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


async def test_a_bomb_is_refused_in_milliseconds_and_takes_no_memory(
    client: httpx.AsyncClient, bomb: bytes
) -> None:
    async def throw() -> float:
        started = perf_counter()
        answer = await client.post(
            f"/v1/models/{IMAGE}/predict", content=bomb, headers={"Content-Type": "image/png"}
        )
        seconds = perf_counter() - started
        assert answer.status_code == 413
        assert answer.json()["code"] == "input_too_large"
        assert "pixels" in answer.json()["detail"]
        return seconds

    assert len(bomb) < 200_000
    await throw()
    before = resident()
    seconds = [await throw() for _ in range(50)]
    print(f"{sorted(seconds)[25] * 1e3:.1f} ms, {(resident() - before) / 2**20:.1f} MiB more")
    assert min(seconds) < 0.05
    assert resident() - before < 16 * 2**20
