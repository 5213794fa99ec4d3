"""What the store holds, by name, version and tag."""

from collections.abc import Iterable, Iterator

from convserve.errors import ModelNotFound
from convserve.settings import TAG, suggestion
from convserve.store import Entry

LATEST = "latest"  # the tag of the newest version that works


class Entries:
    """All artifacts of the store; `tags` are the operator's, `model:tag=version` each.

    The latest version of a model is the largest that was there at first, or could be loaded since.
    """

    def __init__(self, tags: Iterable[str]) -> None:
        self._tags = [match for tag in tags if (match := TAG.fullmatch(tag))]
        self._versions: dict[str, dict[str, Entry]] = {}
        self._latest: dict[str, str] = {}

    def __iter__(self) -> Iterator[Entry]:
        for versions in self._versions.values():
            yield from versions.values()

    def __contains__(self, name: str) -> bool:
        return name in self._versions

    def __bool__(self) -> bool:
        return bool(self._versions)

    def names(self) -> list[str]:
        """Return the names of all models."""
        return sorted(self._versions)

    def versions(self, name: str) -> list[Entry]:
        """Return all versions of a model, the largest first; raises ModelNotFound."""
        if name not in self._versions:
            raise ModelNotFound(f"there is no model {name!r}{suggestion(name, self._versions)}")
        found = self._versions[name]
        return sorted(found.values(), key=lambda entry: int(entry.version), reverse=True)

    def find(self, name: str, version: str | None = None, tag: str | None = None) -> Entry:
        """Return a version of a model, the latest unless told; raises ModelNotFound."""
        if tag is not None:
            version = self._tagged(name, tag)
        if version is None:
            version = self._latest.get(name, "")
        entry = self.get(name, version)
        if entry is None:
            known = ", ".join(other.version for other in self.versions(name))
            raise ModelNotFound(f"{name} has no version {version!r}; it has {known}")
        return entry

    def get(self, name: str, version: str) -> Entry | None:
        """Return that very version of a model, if it is there."""
        return self._versions.get(name, {}).get(version)

    def latest(self, name: str) -> int:
        """Return the number of a model's latest version, 0 if there is none."""
        return int(self._latest.get(name, "0"))

    def add(self, entry: Entry, *, first: bool) -> None:
        """Let it be found, as the latest if it may be: at `first`, even if something ails it."""
        self._versions.setdefault(entry.id, {})[entry.version] = entry
        latest = self.latest(entry.id)
        if not latest or ((first or not entry.flaw) and int(entry.version) > latest):
            self._latest[entry.id] = entry.version

    def drop(self, entry: Entry) -> None:
        """Forget it: another is the latest, if it was."""
        left = self._versions[entry.id]
        del left[entry.version]
        if not left:
            del self._versions[entry.id], self._latest[entry.id]
        elif self._latest[entry.id] == entry.version:
            fit = [version for version, other in left.items() if not other.flaw]
            self._latest[entry.id] = max(fit or left, key=int)

    def _tagged(self, name: str, tag: str) -> str | None:
        if tag == LATEST:
            return None
        tags = {match["tag"]: match["version"] for match in self._tags if match["model"] == name}
        if tag not in tags:
            known = ", ".join([LATEST, *tags])
            raise ModelNotFound(f"{name[:100]} has no tag {tag[:100]!r}; it has {known}")
        return tags[tag]
