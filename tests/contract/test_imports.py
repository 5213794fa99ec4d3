"""The import rules: what the linter sees, that it bites, and the string tables it cannot see."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
    "contracts"
]

# contract -> (file, line): an import that breaks it.
VIOLATIONS = {
    "training, serving and load tests never import each other": (
        "loadtests/plan.py",
        "import convserve.errors",
    ),
    "the service reaches neither torch nor onnx": ("service/convserve/errors.py", "import onnx"),
    "the training side reaches no web framework": (
        "models/convserve_models/recipe.py",
        "import pydantic_settings",
    ),
    "torch is imported only where networks are built, fed and trained": (
        "models/convserve_models/recipe.py",
        "import torch",
    ),
    "manifests, recipes and arithmetic work without torch": (
        "models/convserve_models/arithmetic/axis.py",
        "def late():\n    import torch",
    ),
    "the service's layers": (
        "service/convserve/artifact.py",
        "import convserve.engine.session",
    ),
    "the engine's layers": ("service/convserve/engine/cpu.py", "import convserve.engine.collate"),
    "the web framework stays in app and api": (
        "service/convserve/served_model.py",
        "import starlette.responses",
    ),
    "only engine.session knows ONNX Runtime": (
        "service/convserve/engine/batcher.py",
        "import onnxruntime",
    ),
    "the training side's layers": (
        "models/convserve_models/recipe.py",
        "import convserve_models.train",
    ),
    "the importer's layers": (
        "models/convserve_models/importing/source.py",
        "import convserve_models.importing.adapt",
    ),
    "architectures never import each other": (
        "models/convserve_models/zoo/char_cnn.py",
        "import convserve_models.zoo.all_cnn",
    ),
    "no import cycles": ("loadtests/plan.py", "import loadtests.record"),
}

IMPORT_ALL = """
import importlib, json, pkgutil, re, sys

entry_point = re.compile(rf"{sys.argv[1]}\\.[\\w.]+(:\\w+)?")

def tables(module):
    for name, table in vars(module).items():
        if name.isupper() and isinstance(table, dict):
            for key, entry in table.items():
                if isinstance(entry, str) and entry_point.fullmatch(entry):
                    yield f"{module.__name__}.{name}[{key!r}]", entry

def walk(package):
    yield package
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not found.name.endswith("__main__"):
            yield importlib.import_module(found.name)

entries = {w: e for module in walk(importlib.import_module(sys.argv[1])) for w, e in tables(module)}
for entry in entries.values():
    module, _, attribute = entry.partition(":")
    found = importlib.import_module(module)
    assert not attribute or hasattr(found, attribute), entry
loaded = sorted({name.partition(".")[0] for name in sys.modules})
print(json.dumps({"entries": entries, "loaded": loaded}))
"""


def import_all(package: str) -> dict[str, list[str]]:
    """Import every module of a package and every entry of its string tables, in a new process."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, package], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, list[str]] = json.loads(done.stdout)
    return result


def test_the_service_loads_neither_torch_nor_onnx_nor_the_training_side() -> None:
    forbidden = {"torch", "torchvision", "torchaudio", "lightning", "onnx", "convserve_models"}
    assert not forbidden & set(import_all("convserve")["loaded"])


def test_the_training_side_resolves_its_tables_without_a_web_framework() -> None:
    result = import_all("convserve_models")
    assert {"ARCHITECTURES", "DATASETS"} <= {
        where.partition("[")[0].rpartition(".")[2] for where in result["entries"]
    }
    assert not {"fastapi", "starlette", "uvicorn", "convserve"} & set(result["loaded"])


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of everything that the contracts cover."""
    copy = tmp_path_factory.mktemp("tree")
    for directory in ("service/convserve", "models/convserve_models", "loadtests"):
        ignored = shutil.ignore_patterns("__pycache__", "report", "records", "*.json")
        shutil.copytree(ROOT / directory, copy / directory, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


def lint(tree: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(tree / "service"), str(tree / "models")])
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_contracts_hold(tree: Path) -> None:
    done = lint(tree)
    assert done.returncode == 0, done.stdout


def test_every_contract_is_proved_to_bite() -> None:
    assert {contract["name"] for contract in CONTRACTS} == set(VIOLATIONS)


@pytest.mark.parametrize("contract", VIOLATIONS)
def test_a_forbidden_import_breaks_its_contract(tree: Path, contract: str) -> None:
    file, line = VIOLATIONS[contract]
    source = (tree / file).read_text()
    try:
        (tree / file).write_text(f"{source}\n{line}\n")
        done = lint(tree)
    finally:
        (tree / file).write_text(source)
    assert done.returncode == 1, done.stdout
    assert f"{contract} BROKEN" in done.stdout


@pytest.mark.parametrize("package", ["service/convserve", "models/convserve_models"])
def test_a_new_module_must_be_given_its_layer(tree: Path, package: str) -> None:
    stray = tree / package / "stray.py"
    try:
        stray.write_text("")
        done = lint(tree)
    finally:
        stray.unlink()
    assert done.returncode == 1
    assert "stray" in done.stdout
