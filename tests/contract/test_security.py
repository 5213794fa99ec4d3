"""SECURITY.md: every threat names a test that exists; and those tests that have no other home."""

import ast
import re
from pathlib import Path

import pytest

from convserve.server import Server
from convserve.settings import Settings

ROOT = Path(__file__).parents[2]
TABLE = (ROOT / "SECURITY.md").read_text().partition("| threat | answer | test |")[2]
ROWS = [line for line in TABLE.splitlines() if line.startswith("| ")]
CODE = re.compile(
    r"pickle|marshal|shelve|dill|cloudpickle|joblib|eval|exec|compile|runpy|"
    r"register_custom_ops_library|spec_from_file_location|allow_pickle|dlopen|LoadLibrary"
)
SOURCES = sorted((ROOT / "service").rglob("*.py"))


def known() -> set[str]:
    found = (re.findall(r"^ *(?:async )?def (test_\w+)", path.read_text(), flags=re.MULTILINE)
             for path in (ROOT / "tests").rglob("test_*.py"))  # fmt: skip
    return {name for names in found for name in names}


def test_every_threat_has_a_test() -> None:
    assert len(ROWS) > 10
    for row in ROWS:
        named = set(re.findall(r"`(test_\w+)`", row))
        assert named, row
        assert named <= known(), row


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_the_service_runs_no_code_from_a_store(path: Path) -> None:
    """It uses nothing that makes code of data: not a name, an attribute, a module or an option."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Name(id=name) | ast.keyword(arg=str(name)):
                words = [name]
            case ast.Attribute(value=ast.Name(id="re"), attr="compile"):
                words = []
            case ast.Attribute(attr=name):
                words = [name]
            case ast.Import(names=names):
                words = [alias.name for alias in names]
            case ast.ImportFrom(module=str(module), names=names):
                words = [module, *(alias.name for alias in names)]
            case _:
                words = []
        assert not [word for word in words if CODE.fullmatch(word)], (path, node.lineno)  # type: ignore[attr-defined]


def test_forwarded_headers_are_believed_of_named_proxies_only(pristine_store: Path) -> None:
    nobody = Server(Settings(store=pristine_store, cores=1)).config
    assert not nobody.proxy_headers
    named = Settings(store=pristine_store, cores=1, trusted_proxies=("10.0.0.0/8",))
    config = Server(named).config
    assert config.proxy_headers
    assert config.forwarded_allow_ips == ["10.0.0.0/8"]
