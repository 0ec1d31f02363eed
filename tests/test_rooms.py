"""Imports run one way: a room imports those that CONTRIBUTING names before it, and itself."""

import ast
import importlib
import re

import pytest

from .integration.shims import ROOT

PACKAGE = "admin_fairseq"
ORDER = re.search(r"```text\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)[1]
RANK = {room: rank for rank, line in enumerate(ORDER.splitlines()) for room in line.split()}
FILES = sorted((ROOT / PACKAGE).rglob("*.py"))


def room_of(module):
    """``admin_fairseq.fast.layout`` → ``fast``."""
    return (*module.split("."), PACKAGE)[1]


def imported(path):
    """The rooms that a file imports from, wherever in it, and the line that says so."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] == PACKAGE:
                yield room_of(name), node.lineno


def test_every_room_has_its_place():
    rooms = {path.relative_to(ROOT / PACKAGE).parts[0].removesuffix(".py") for path in FILES}
    assert rooms - {"__init__"} == set(RANK)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_arrow_goes_back(path):
    room = path.relative_to(ROOT / PACKAGE).parts[0].removesuffix(".py")
    if room == "__init__":  # registers all there is
        return
    for other, line in imported(path):
        assert other == room or RANK[other] < RANK[room], f"{path}:{line} imports {other}"


@pytest.mark.parametrize(
    "path", sorted((ROOT / "scripts").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_scripts_import_what_there_is(path):
    """Those of the quick start need packages that the tests do not install."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == PACKAGE:
            module = importlib.import_module(node.module)
            for alias in node.names:
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")
