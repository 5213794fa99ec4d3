"""A model store in an object store, and the local copy of it that is served.

Objects are read through fsspec, which an extra installs (`pip install 'convserve[s3]'`, `[gcs]`).
A file whose copy has the digest that its manifest states is never fetched again, and whatever was
fetched is checked once more when the artifact is loaded: a corrupted object is refused there.
"""

import hashlib
import os
import re
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from convserve.artifact import SIGNED, digests, read_manifest
from convserve.errors import InvalidArtifact
from convserve.store import VERSION

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
IDENTITY = ("ETag", "etag", "md5Hash", "size", "mtime", "LastModified", "created", "updated")
Objects = dict[str, str]  # name → what changes when the object does


class StoreUnreachable(OSError):
    """The object store does not answer, or does not let us read."""


class Mirror:
    """Keeps `directory`, a copy of the store at `url`, as the original is."""

    def __init__(self, url: str, cache: Path) -> None:
        self.url = url
        self.directory = (
            cache.expanduser() / "stores" / hashlib.sha256(url.encode()).hexdigest()[:16]
        )
        self._known: dict[str, Objects] = {}

    def refresh(self) -> None:
        """Fetch what has changed and forget what is gone; raises StoreUnreachable."""
        self.directory.mkdir(parents=True, exist_ok=True)
        try:
            files, root = _open(self.url)
            listed = _listed(files, root)
            for directory, objects in listed.items():
                if self._known.get(directory) != objects:
                    self._copy(files, root, directory, objects)
                    self._known[directory] = objects
        except Exception as error:  # each kind of store has errors of its own
            reason = f"{type(error).__name__}: {error}"
            raise StoreUnreachable(f"the store {self.url} cannot be read: {reason}") from error
        self._forget(listed)

    def _copy(self, files: Any, root: str, directory: str, objects: Objects) -> None:
        local = self.directory / directory
        for name in sorted(objects, key=lambda name: name not in SIGNED):
            stated = {} if name in SIGNED else _stated(local)
            if not _has_digest(local / name, stated.get(name)):
                self._fetch(files, "/".join(filter(None, (root, directory, name))), local / name)
        for file in local.rglob("*") if directory else ():
            if file.is_file() and file.relative_to(local).as_posix() not in objects:
                file.unlink()

    def _fetch(self, files: Any, remote: str, local: Path) -> None:
        """Copy an object; nobody ever sees half of it."""
        local.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(prefix=".partial-", dir=self.directory)
        os.close(handle)
        try:
            files.get_file(remote, partial)
            Path(partial).replace(local)
        finally:
            Path(partial).unlink(missing_ok=True)

    def _forget(self, listed: Mapping[str, Objects]) -> None:
        for path in self.directory.glob("*/*/"):
            if path.relative_to(self.directory).as_posix() not in listed:
                shutil.rmtree(path)
        if "store.json" not in listed.get("", {}):
            (self.directory / "store.json").unlink(missing_ok=True)
        self._known = {name: self._known[name] for name in listed}


def _open(url: str) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs  # noqa: PLC0415 -- an extra
    except ImportError:
        raise RuntimeError("pip install 'convserve[s3]' or 'convserve[gcs]' first") from None
    files, root = url_to_fs(url)
    return files, root.rstrip("/")


def _listed(files: Any, root: str) -> dict[str, Objects]:
    """Return directory → its objects: every `<id>/<version>`, and "" with store.json."""
    files.invalidate_cache()
    found: dict[str, Objects] = defaultdict(dict)
    for path, details in files.find(root, detail=True).items():
        parts = PurePosixPath(path.removeprefix(root).lstrip("/")).parts
        identity = repr([details.get(key) for key in IDENTITY])
        if parts == ("store.json",):
            found[""]["store.json"] = identity
        elif len(parts) > 2 and VERSION.fullmatch(parts[1]) and all(map(NAME.fullmatch, parts)):
            found["/".join(parts[:2])]["/".join(parts[2:])] = identity
    if not found:
        raise FileNotFoundError(f"no artifact (<id>/<version>/…) at {root}")
    return dict(found)


def _stated(local: Path) -> dict[str, str]:
    try:
        return dict(digests(read_manifest(local)))
    except InvalidArtifact:  # the reason is told when it is loaded
        return {}


def _has_digest(file: Path, digest: str | None) -> bool:
    if digest is None or not file.is_file():
        return False
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == digest
