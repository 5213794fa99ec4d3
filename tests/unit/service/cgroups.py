"""A fake /proc and /sys, for what reads control groups."""

from pathlib import Path


def tree(root: Path, membership: str, files: dict[str, str]) -> Path:
    """A fake /proc and /sys; `files` are relative to /sys/fs/cgroup."""
    for path, text in {
        "proc/self/cgroup": membership,
        **{f"sys/fs/cgroup/{path}": text for path, text in files.items()},
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text + "\n")
    return root
