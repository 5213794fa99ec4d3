"""The model store on disk: which artifacts are there, and which have changed."""

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from convserve.artifact import is_bare, read_manifest
from convserve.errors import InvalidArtifact
from convserve.manifest import Manifest
from convserve.served_model import ServedModel

State = Literal["available", "loading", "ready", "failed", "unloaded"]
STATES: tuple[State, ...] = get_args(State)
VERSION = re.compile(r"[1-9][0-9]{0,8}")
FILES = 3  # a loaded model takes about so many times its files
Key = tuple[str, str]
Fingerprint = tuple[tuple[str, int, int, int], ...]


@dataclass(eq=False)
class Entry:
    """One artifact of the store, and what became of it; `flaw` says why it cannot be served.

    `wanted` callers wait for it, the last one came at `used`; loaded, it takes so many bytes.
    `unloaded` by hand, it stays so until it is loaded by hand.
    """

    path: Path
    manifest: Manifest | None = None
    flaw: str | None = None
    model: ServedModel | None = None
    loading: asyncio.Task[None] | None = None
    wanted: int = 0
    used: float = 0.0
    footprint: int = 0
    fingerprint: Fingerprint = ()
    unloaded: bool = False

    @property
    def id(self) -> str:
        """The model's name."""
        return self.path.parent.name

    @property
    def version(self) -> str:
        """The version's number, as text."""
        return self.path.name

    @property
    def key(self) -> Key:
        """Name and version."""
        return self.id, self.version

    @property
    def fault(self) -> str | None:
        """Why it is not served, or not now; None if it is or may be."""
        return self.flaw or (self.model.fault if self.model else None)

    @property
    def state(self) -> State:
        """Where the artifact is on its way into service."""
        if self.unloaded:
            return "unloaded"
        if self.fault:
            return "failed"
        if self.model:
            return "ready"
        return "loading" if self.loading else "available"


class Watch:
    """Notices what changes in a store. What is still being written is left for later."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._last: dict[Key, Fingerprint] = {}

    def changes(
        self, known: Mapping[Key, Fingerprint], *, patient: bool
    ) -> tuple[list[Entry], set[Key]]:
        """Return the artifacts that are not as `known`, and those that are gone; reads the disk.

        A `patient` watch returns only what is the same as at its last look.
        """
        found = {path: _fingerprint(path) for path in _directories(self._store)}
        keys = {(path.parent.name, path.name): print_ for path, print_ in found.items()}
        changed = [
            _entry(path, print_)
            for path, print_ in found.items()
            for key in [(path.parent.name, path.name)]
            if known.get(key) != print_ and (not patient or self._last.get(key) == print_)
        ]
        self._last = keys
        return changed, known.keys() - keys.keys()


def discover(store: Path) -> Iterator[Entry]:
    """Find the artifacts `<id>/<version>` of a store; what is wrong with one is its `flaw`."""
    for path in _directories(store):
        yield _entry(path, _fingerprint(path))


def estimate(path: Path) -> int:
    """Predict the bytes that a model takes which was never loaded."""
    return FILES * sum(file.stat().st_size for file in path.glob("*") if file.is_file())


def default_models(store: Path) -> tuple[str, ...]:
    """Return the names that `store.json` marks as default, none if there is no such file."""
    file = store / "store.json"
    if not file.exists():
        return ()
    try:
        names = json.loads(file.read_bytes())["default"]
        return tuple(map(str, names))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidArtifact(
            f"{file} cannot be read: {error!r}", 'write it as {"default": ["<model>", …]}'
        ) from None


def _directories(store: Path) -> Iterator[Path]:
    return (path for path in sorted(store.glob("*/*/")) if VERSION.fullmatch(path.name))


def _entry(path: Path, fingerprint: Fingerprint) -> Entry:
    try:
        manifest = None if is_bare(path) else read_manifest(path)
        return Entry(path, manifest, fingerprint=fingerprint)
    except InvalidArtifact as error:
        return Entry(path, flaw=str(error), fingerprint=fingerprint)


def _fingerprint(path: Path) -> Fingerprint:
    """Tell one state of a directory from another, without reading its files."""
    states = []
    for file in sorted(path.rglob("*")):
        try:
            state = file.stat()
        except OSError:  # it went away meanwhile
            continue
        states.append((str(file), state.st_ino, state.st_size, state.st_mtime_ns))
    return tuple(states)
