"""The artifact: how a directory is proved to be one, and a lone graph taken for one."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from convserve.errors import InvalidArtifact
from convserve.manifest import Derived, Graph, Graphs, Limits, Manifest

BARE_GRAPH = "model.onnx"
SIGNED = ("manifest.json", "manifest.sha256")  # they tell what the other files must be
BESIDE = {"explain", "features", "int8"}  # the graphs without which a model answers
RE_EXPORT = "export the artifact again, or restore the file from where it was exported"
DYNAMIC_BATCH = (
    "in torch: onnx.export(…, dynamo=True, dynamic_shapes=({0: torch.export.Dim('batch')},))"
)
Described = Mapping[str, object]


@dataclass(frozen=True)
class Artifact:
    """A directory whose every file that answers are made of is what its manifest says."""

    path: Path
    manifest: Manifest

    @property
    def graph(self) -> Path:
        """The ONNX file that is served."""
        return self.path / self.manifest.graphs.predict.file

    def beside(self, role: str) -> Path | None:
        """Return the ONNX file of a role without which it can be served, None if there is none.

        Raises InvalidArtifact if it is not what the manifest says.
        """
        graph: Graph | None = getattr(self.manifest.graphs, role)
        if graph is None:
            return None
        _check_digest(self.path, graph.file, graph.sha256)
        _check_reading(self.path, graph, self.manifest)
        return self.path / graph.file


def load_artifact(path: Path) -> Artifact:
    """Read the artifact in the directory `<id>/<version>` and check the digests.

    Those of what explains are checked when they are opened: a model answers without them.

    Raises InvalidArtifact naming the file and the remedy.
    """
    manifest = read_manifest(path)
    directory = path.resolve()
    for claimed, actual in (("id", directory.parent.name), ("version", directory.name)):
        stated = getattr(manifest, claimed)
        if stated != actual:
            raise InvalidArtifact(
                f"{path / 'manifest.json'} says {claimed} {stated!r}, its directory {actual!r}",
                f"rename the directory to {manifest.id}/{manifest.version}",
            )
    for file, digest in _needed(manifest):
        _check_digest(path, file, digest)
    _check_reading(path, manifest.graphs.predict, manifest)
    return Artifact(path, manifest)


def is_bare(path: Path) -> bool:
    """Tell whether a directory is one of Triton's layout: a `model.onnx` and no manifest."""
    signed = any((path / f"manifest.{kind}").exists() for kind in ("json", "sha256"))
    return not signed and (path / BARE_GRAPH).is_file()


def bare_artifact(
    path: Path, inputs: Sequence[Described], outputs: Sequence[Described]
) -> Artifact:
    """Return a bare directory as an artifact that takes and gives tensors.

    `inputs` and `outputs` are what its graph says: name, datatype and shape of each. Raises
    InvalidArtifact if a first axis is no batch: missing, or fixed at another size than 1.
    """
    graph, place = path / BARE_GRAPH, path.resolve()
    content = _read(graph)
    facts = {
        "schema_version": 1,
        "id": place.parent.name,
        "version": place.name,
        "graphs": {"predict": {"file": BARE_GRAPH, "sha256": hashlib.sha256(content).hexdigest()}},
        "inputs": tuple(inputs),
        "outputs": tuple(outputs),
    }
    try:
        manifest = Derived.model_validate(facts)
    except ValidationError as error:
        raise InvalidArtifact(
            f"{graph}: {_first(error)}",
            "name its directory with letters, digits, dots, dashes and underscores, and export it "
            f"with the batch as first axis; {DYNAMIC_BATCH}",
        ) from None
    return Artifact(path, manifest.model_copy(update={"limits": _limits(graph, manifest)}))


def _limits(graph: Path, manifest: Manifest) -> Limits:
    tensors = [*manifest.inputs, *manifest.outputs]
    for tensor in tensors:
        if tensor.shape[0] not in (-1, 1):
            raise InvalidArtifact(
                f"{graph}: the first axis of {tensor.name!r} {list(tensor.shape)} is fixed at "
                f"{tensor.shape[0]}, so it is no batch",
                DYNAMIC_BATCH,
            )
    batches = all(tensor.shape[0] == -1 for tensor in tensors)
    return Limits() if batches else Limits(max_batch_size=1)


def read_manifest(path: Path) -> Manifest:
    """Read the manifest in the directory `path`, its signature first; raises InvalidArtifact."""
    file = path / "manifest.json"
    content = _read(file)
    _check_signature(file, content)
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        raise InvalidArtifact(
            f"{file}: {_first(error)}",
            "write it as models/store/artifact.schema.json says, then sign it again",
        ) from None


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the manifest'}: {first['msg']}"


def _check_signature(file: Path, content: bytes) -> None:
    signature = file.with_suffix(".sha256")
    make = (
        f"if {file.name} is as you mean it, sign it: "
        f"cd {file.parent} && sha256sum {file.name} > {signature.name}"
    )
    if not signature.is_file():
        raise InvalidArtifact(f"{signature} is missing", make)
    stated = _read(signature).decode("ascii", "replace").split()
    if stated != [hashlib.sha256(content).hexdigest(), file.name]:
        raise InvalidArtifact(f"{file} does not have the digest in {signature}", make)


def digests(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Yield the name and the SHA-256 of every file that the manifest lists."""
    yield from _needed(manifest)
    for role in sorted(BESIDE):
        graph: Graph | None = getattr(manifest.graphs, role)
        if graph is not None:
            yield graph.file, graph.sha256


def _needed(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Yield those without which it cannot be served."""
    for role in Graphs.model_fields.keys() - BESIDE:
        graph: Graph | None = getattr(manifest.graphs, role)
        if graph is not None:
            yield graph.file, graph.sha256
    for golden in manifest.goldens:
        yield golden.input, golden.sha256


def _check_reading(root: Path, graph: Graph, manifest: Manifest) -> None:
    """Refuse a graph that names a file beside it which no checked digest covers.

    ONNX Runtime reads such external data. Where they are is a string in the graph, as every string
    behind its length: a name that only ends like a file's is not meant.
    """
    covered = {*SIGNED, graph.file, *(name for name, _ in _needed(manifest))}
    beside = {file for file in root.rglob("*") if file.is_symlink() or not file.is_dir()}
    strange = sorted(file for file in beside if file.relative_to(root).as_posix() not in covered)
    content = _read(root / graph.file) if strange else b""
    for file in strange:
        name = file.name.encode()
        if any(start + name in content for start in (_length(name), b"/")):
            raise InvalidArtifact(
                f"{root / graph.file} names {file}, which has no digest in the manifest",
                "export the graph with its weights inside (external_data=False)",
            )


def _length(string: bytes) -> bytes:
    """Return the last byte of its length as Protocol Buffers write it, seven bits a byte."""
    length = len(string)
    while length > 127:
        length >>= 7
    return bytes([length])


def _check_digest(root: Path, name: str, digest: str) -> None:
    file = root / name
    if not file.resolve().is_relative_to(root.resolve()):
        raise InvalidArtifact(f"{file} leads out of the artifact", "copy the file into it")
    with _reading(file), file.open("rb") as stream:
        actual = hashlib.file_digest(stream, "sha256").hexdigest()
    if actual != digest:
        raise InvalidArtifact(f"{file} does not have the digest in the manifest", RE_EXPORT)


def _read(file: Path) -> bytes:
    with _reading(file):
        return file.read_bytes()


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InvalidArtifact(f"{file} cannot be read: {error.strerror}", RE_EXPORT) from None
