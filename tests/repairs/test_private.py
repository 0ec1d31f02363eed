"""Private parts of other packages: in one place, and missed in one line."""

import ast
import codecs
import pickle
from types import SimpleNamespace

import pytest
import torch
from fairseq.logging.progress_bar import SimpleProgressBar
from omegaconf import OmegaConf
from torch import nn

from admin_fairseq.errors import AdminError
from admin_fairseq.repairs import private

from ..integration.shims import ROOT

FILES = [ROOT / "admin_fairseq_cli.py", *sorted((ROOT / "admin_fairseq").rglob("*.py"))]
DOCUMENTED = {"_asdict", "_exit", "_name", "_replace"}
"""Of named tuples, of ``os``, and of fairseq's options: public in spite of their names."""
PATCH = ("repairs/", "starting.py", "dynamics.py")
"""What may change other packages."""


def is_private(name):
    return name.startswith("_") and not name.endswith("__")


def defined(tree):
    """The private names that a file gives to what is its own."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield from [node.attr] if ast.unparse(node.value) in ("self", "cls") else []


def named(node):
    """The names of other packages' parts that a node reads or imports."""
    if isinstance(node, ast.Attribute):
        return [node.attr]
    if isinstance(node, ast.Import):
        return [name for alias in node.names for name in alias.name.split(".")]
    if isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("admin_"):
        return [*(node.module or "").split("."), *(alias.name for alias in node.names)]
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "setattr", "hasattr"):
        return [node.args[1].value] if isinstance(node.args[1], ast.Constant) else []
    return []


def is_of_a_base(node):
    return isinstance(node, ast.Attribute) and ast.unparse(node.value).startswith("super(")


def touched(tree):
    """Line and name of each private part of another package."""
    own = set(defined(tree)) | DOCUMENTED
    for node in ast.walk(tree):
        for name in filter(is_private, named(node)):
            if name not in own or is_of_a_base(node):
                yield node.lineno, name


def changed(tree):
    """Line and target of each assignment to what was imported from another package."""
    imported = set()
    for node in ast.walk(tree):
        is_import = isinstance(node, (ast.Import, ast.ImportFrom))
        if is_import and not (getattr(node, "module", None) or "").startswith("admin_"):
            imported |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    for node in ast.walk(tree):
        is_assigned = isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
        if is_assigned and ast.unparse(node).split(".")[0] in imported:
            yield node.lineno, ast.unparse(node)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_private_parts_of_others_are_in_one_place(path):
    if path.name != "private.py":
        assert not list(touched(ast.parse(path.read_text(encoding="utf-8"))))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_repairs_change_other_packages(path):
    where = path.relative_to(ROOT / "admin_fairseq").as_posix() if path != FILES[0] else path.name
    if not where.startswith(PATCH):
        assert not list(changed(ast.parse(path.read_text(encoding="utf-8"))))


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("import torch; torch._foreach_add_([], [])", "_foreach_add_"),
        ("import _codecs", "_codecs"),
        ("from torch._dynamo import config", "_dynamo"),
        ("from torch import _weights_only_unpickler", "_weights_only_unpickler"),
        ("getattr(model, '_parameters')", "_parameters"),
        ("self._modules", "_modules"),
        ("class A(B):\n def _open(self): super()._open()", "_open"),
        ("self._mine = 1; self._mine", None),
        ("from admin_fairseq import _mine", None),
    ],
)
def test_the_scan_finds_what_it_looks_for(line, found):
    assert [name for _, name in touched(ast.parse(line))] == ([found] if found else [])


def test_the_scan_finds_changes():
    tree = ast.parse("import a; from b import c as d; x = 1; a.load = d.y = x.z = 1")
    assert [target for _, target in changed(tree)] == ["a.load", "d.y"]


@pytest.mark.parametrize(
    ("owner", "told"),
    [
        (torch, r"^torch\._gone is missing, .* torch 2\.1 to"),
        (nn.Linear(1, 1), r"^torch\.nn\.modules\.linear\.Linear\._gone is missing"),
        (
            SimpleProgressBar,
            r"fairseq\.logging.*SimpleProgressBar\._gone is missing.*fairseq 0\.12\.2",
        ),
        (OmegaConf.create(), r"omegaconf\..*DictConfig\._gone is missing"),
        (pickle, r"^pickle\._gone is missing, .* Python 3\.9 to"),
    ],
)
def test_what_is_gone_is_told_in_one_line(owner, told):
    with pytest.raises(AdminError, match=told):
        private.part(owner, "_gone")


def test_weights_are_added_with_and_without_torchs_function(monkeypatch):
    tensors = [torch.tensor([1.0, 2.0]), torch.tensor([[3.0]])]
    at_once, one_by_one = ([tensor.clone() for tensor in tensors] for _ in range(2))
    private.add_to_each(at_once, tensors, alpha=-0.25)
    monkeypatch.setattr(private, "torch", SimpleNamespace())
    private.add_to_each(one_by_one, tensors, alpha=-0.25)
    assert at_once[0].tolist() == one_by_one[0].tolist() == [0.75, 1.5]
    assert at_once[1].tolist() == one_by_one[1].tolist() == [[2.25]]


def test_parts_are_what_they_are_taken_for():
    config = OmegaConf.create({"model": {"layers": {"number": 3}}})
    assert private.root_of(config.model.layers) is config
    assert private.type_of_tokens(4) is not None and private.type_of_tokens(99) is None
    assert len({private.INDEX_MAGIC, *private.OTHER_MAGIC}) == 3
    assert private.NAMES_OF_PYTHON_2["__builtin__"] == "builtins"
    assert "torch._utils._rebuild_tensor_v2" in private.allowed_globals()
    linear = nn.Linear(1, 1)
    assert not private.calls_anything_before(linear)
    linear.register_forward_pre_hook(print)
    assert private.calls_anything_before(linear)
    assert codecs.encode.__module__ == "_codecs"  # what a pickle of numpy's names
