"""Downloads that resume, prove their checksum and show a progress bar."""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.request
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPResponse
from pathlib import Path

from tqdm import tqdm

from convserve_models.data import FetchError

CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Remote:
    """A file of a public origin and the SHA-256 it must have."""

    url: str
    sha256: str

    @property
    def name(self) -> str:
        """The last part of the address."""
        return self.url.rsplit("/", 1)[-1]


def fetch(remote: Remote, folder: Path, timeout: float = 30.0) -> Path:
    """Return the file in `folder`, downloading what is missing of it.

    A finished file is taken as it is after its checksum; a half-finished one (`.part`) goes on
    where it stopped. Raises `FetchError` with the remedy when offline or when the checksum differs.
    """
    path = folder / remote.name
    if path.exists():
        _verify(path, remote)
        return path
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    _download(remote, part, timeout)
    _verify(part, remote)
    part.replace(path)
    return path


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _verify(path: Path, remote: Remote) -> None:
    found = sha256_of(path)
    if found != remote.sha256:
        path.unlink()
        raise FetchError(
            f"{path.name} has SHA-256 {found}, not {remote.sha256}: the file was removed; "
            f"run again, and if it stays so the origin {remote.url} has changed"
        )


def _download(remote: Remote, part: Path, timeout: float) -> None:
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(remote.url, headers={"Range": f"bytes={have}-"})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            resumed = answer.status == HTTPStatus.PARTIAL_CONTENT
            _write(answer, part, have if resumed else 0)
    except urllib.error.HTTPError as error:
        # 416: nothing is left to fetch. The checksum decides whether the part is the file.
        if error.code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise FetchError(f"{remote.url} answered {error.code} {error.reason}") from error
    except (OSError, urllib.error.URLError) as error:
        raise FetchError(
            f"cannot reach {remote.url} ({error}); run again to resume, or put the file at "
            f"{part.with_suffix('')} yourself"
        ) from error


def _write(answer: HTTPResponse, part: Path, have: int) -> None:
    length = int(answer.headers["Content-Length"])
    bar = tqdm(total=have + length, initial=have, unit="B", unit_scale=True, desc=part.stem)
    with part.open("ab" if have else "wb") as file, bar:
        while chunk := answer.read(CHUNK):
            file.write(chunk)
            bar.update(len(chunk))
    if part.stat().st_size != have + length:
        # A short read is no error to http.client when it is asked for pieces.
        raise OSError(f"the connection broke at {part.stat().st_size} of {have + length} bytes")
