"""Predictions without a server: files in, a table out."""

import asyncio
import csv
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any, TextIO

import orjson

from convserve.engine.memory import ByteBudget
from convserve.errors import ConvserveError
from convserve.repository import Repository
from convserve.served_model import ServedModel
from convserve.settings import Settings
from convserve.telemetry import Telemetry, Trace

CHUNK = 64
COLUMNS = {"classification": ("label", "probability"), "transcription": ("transcript", "score")}
UNLIMITED = ByteBudget(sys.maxsize)  # a chunk is bound, and nobody else asks
Row = dict[str, Any]


async def predict(
    settings: Settings, name: str, sources: Sequence[Path], out: str, top_k: int
) -> int:
    """Write a row for each file, in order, and return how many of them failed.

    `out` is a file, JSON lines if it ends in .jsonl, else CSV; "-" is CSV on stdout.
    Raises ModelNotFound or ModelNotReady.
    """
    repository = Repository(settings, Telemetry())
    await repository.start()
    try:
        await repository.settled()
        model = await repository.get(name)
        with _open(out) as stream:
            top_k = min(top_k, len(model.labels))
            write = (
                _json_lines(stream)
                if out.endswith(".jsonl")
                else _table(stream, COLUMNS.get(model.task, ()), top_k)
            )
            chunk = min(CHUNK, settings.queue_capacity)
            return await _run(model, list(_files(sources)), write, chunk, top_k)
    finally:
        await repository.close()


async def _run(
    model: ServedModel, files: Sequence[Path], write: Callable[[Row], None], chunk: int, top_k: int
) -> int:
    started, failed = monotonic(), 0
    for begin in range(0, len(files), chunk):
        some = files[begin : begin + chunk]
        for row in await asyncio.gather(*(_row(model, file, top_k) for file in some)):
            write(row)
            failed += "error" in row
        print(f"\r{begin + len(some)} of {len(files)} files", end="", file=sys.stderr, flush=True)
    print(f", {failed} failed, {monotonic() - started:.1f} s", file=sys.stderr)
    return failed


async def _row(model: ServedModel, file: Path, top_k: int) -> Row:
    trace = Trace("")
    try:
        with UNLIMITED.hold() as hold:
            data = await asyncio.to_thread(file.read_bytes)
            prepared = await model.prepare(data, trace, hold)
        answer = await model.infer(prepared, trace, top_k=top_k)
    except (ConvserveError, OSError) as error:
        return {"file": str(file), "error": str(error)}
    return {"file": str(file)} | answer


def _files(sources: Iterable[Path]) -> Iterator[Path]:
    for source in sources:
        if source.is_dir():
            yield from sorted(file for file in source.rglob("*") if _wanted(file))
        else:
            yield source


def _wanted(file: Path) -> bool:
    return file.is_file() and not file.name.startswith(".")


@contextmanager
def _open(out: str) -> Iterator[TextIO]:
    if out == "-":
        yield sys.stdout
    else:
        with Path(out).open("w", encoding="utf-8", newline="") as stream:
            yield stream


def _json_lines(stream: TextIO) -> Callable[[Row], None]:
    def write(row: Row) -> None:
        stream.write(orjson.dumps(row).decode() + "\n")

    return write


def _table(stream: TextIO, words: Sequence[str], top_k: int) -> Callable[[Row], None]:
    writer = csv.writer(stream, lineterminator="\n")
    ranks = [f"{what}_{rank}" for rank in range(1, top_k + 1) for what in words]
    writer.writerow(["file", *ranks, "error"])

    def write(row: Row) -> None:
        ranked = row.get("top") or row.get("alternatives") or ()
        cells = [cell for entry in ranked for cell in entry.values()]
        cells += [""] * (len(ranks) - len(cells))
        writer.writerow([row["file"], *cells, row.get("error", "")])

    return write
