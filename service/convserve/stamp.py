"""What earlier starts have proved on this machine, and what they proved it of."""

import hashlib
import json
import logging
from functools import cache, cached_property
from pathlib import Path

from convserve import preprocess
from convserve.engine.cpu import cpu_identity
from convserve.engine.session import RUNTIME
from convserve.manifest import Manifest
from convserve.settings import Settings

logger = logging.getLogger(__name__)


class Stamp:
    """Whether a graph has reproduced all goldens of its artifact before.

    It is a file of the cache. Its name follows from all that the goldens prove: the manifest with
    every file's digest, the role of the graph, how many threads run it, the settings of
    preprocessing, the decoders, this service's own code, ONNX Runtime's version and the CPU.
    """

    def __init__(self, manifest: Manifest, threads: int, settings: Settings, role: str) -> None:
        self._manifest, self._settings = manifest, settings
        self._threads, self._role = threads, role

    @property
    def there(self) -> bool:
        """Tell whether it has been left."""
        return self._file.is_file()

    def leave(self) -> None:
        """Remember that all goldens were reproduced; where that cannot be written, it is not."""
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.touch()
        except OSError as error:
            logger.info("the next start proves all goldens again: %s", error)

    @cached_property
    def _file(self) -> Path:
        facts = (
            self._manifest.model_dump_json(),
            self._role,
            self._threads,
            self._settings.max_pixels,
            *preprocess.libraries(),
            _code(),
            RUNTIME,
            cpu_identity(),
        )
        name = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
        return self._settings.cache.expanduser() / "verified" / name


@cache
def _code() -> str:
    """Return the digest of this service's code."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()
