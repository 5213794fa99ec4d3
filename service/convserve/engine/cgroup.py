"""The control groups of this process: its own and every group above it that can be seen."""

import re
from collections.abc import Iterator
from pathlib import Path


def groups(root: Path = Path("/")) -> Iterator[Path]:
    """Yield the process's control groups, each followed by those above it.

    `root` holds `proc` and `sys`. Inside a container the path may be the host's, while the
    container's own group is mounted at the top: what does not exist below the mount is passed over
    by the readers.
    """
    text = read(root / "proc/self/cgroup")
    for controllers, path in re.findall(r"^\d+:([^:]*):(.*)$", text, re.MULTILINE):
        names = [part for part in path.split("/") if part not in {"", ".."}]
        for mount in _mounts(controllers):
            top = root / "sys/fs/cgroup" / mount
            yield from (top.joinpath(*names[:depth]) for depth in range(len(names), -1, -1))


def read(path: Path) -> str:
    """Return the text of a file, empty if it cannot be read."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _mounts(controllers: str) -> list[str]:
    """Where a hierarchy is mounted: v2 has no controllers listed, v1 has one or several."""
    return [controllers, *controllers.split(",")] if controllers else ["", "unified"]
