"""`convserve validate`: prove artifacts as the service does, and say what is wrong."""

from collections.abc import Iterator
from pathlib import Path

from convserve.artifact import is_bare
from convserve.engine.cpu import cpu_budget
from convserve.engine.decoders import Decoders
from convserve.errors import InvalidArtifact
from convserve.precision import ONLY
from convserve.served_model import open_model
from convserve.settings import Settings
from convserve.store import discover
from convserve.telemetry import Telemetry


def validate(settings: Settings, path: Path) -> bool:
    """Print a line for each artifact in `path`, a store or one artifact; True if all are good."""
    artifacts = list(_artifacts(path))
    if not artifacts:
        print(f"FAIL  {path} holds no artifact (<id>/<version>/manifest.json)")
    verdicts = [_report(settings, artifact) for artifact in artifacts]
    return bool(verdicts) and all(verdicts)


def _artifacts(path: Path) -> Iterator[Path]:
    if (path / "manifest.json").exists() or is_bare(path):
        yield path
    else:
        yield from (entry.path for entry in discover(path))


def _report(settings: Settings, path: Path) -> bool:
    budget = cpu_budget(settings.cores)
    try:
        model, verdict = open_model(path, settings, budget, Decoders(1), Telemetry())
        model.graphs.try_further()
    except InvalidArtifact as error:
        print(f"FAIL  {path}: {error.detail}\n      remedy: {error.remedy}")
        return False
    print(f"ok    {path}: {verdict.goldens} goldens, largest difference {verdict.worst:.2g}")
    if model.graphs.precision != ONLY:
        print(f"      {model.graphs.precision}")
    return True
