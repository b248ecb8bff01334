"""The house rules that a test can hold."""

import ast
import builtins
import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import lenssteer
from lenssteer.errors import LenssteerError

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "lenssteer"
MODULES = [name for _, name, _ in pkgutil.walk_packages([str(PACKAGE)], "lenssteer.") if not name.endswith("__main__")]
LIGHT = [name for name in MODULES if ".models.hooked" not in name and not name.endswith(".train_sae")]
LONGEST_MODULE, LONGEST_FUNCTION = 280, 45


def test_every_public_name_exists():
    for name in lenssteer.__all__:
        assert getattr(lenssteer, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        getattr(lenssteer, "nonsense")  # noqa: B009


def test_public_names_are_documented():
    for name in lenssteer.__all__:
        assert inspect.getdoc(getattr(lenssteer, name)), name


@pytest.mark.parametrize("name", LIGHT)
def test_examples_in_docstrings_hold(name):
    module = importlib.import_module(name)
    names = {"torch": importlib.import_module("torch")}
    failed, _ = doctest.testmod(module, extraglobs=names)
    assert failed == 0


def test_modules_and_functions_stay_readable():
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= LONGEST_MODULE, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                doc = ast.get_docstring(node, clean=False) or ""
                body = node.end_lineno - node.body[0].lineno + 1 - len(doc.splitlines())
                assert body <= LONGEST_FUNCTION, f"{path}: {node.name} has {body} lines"


def test_every_error_is_a_lenssteer_error():
    errors = importlib.import_module("lenssteer.errors")
    for _, kind in inspect.getmembers(errors, inspect.isclass):
        assert issubclass(kind, LenssteerError)


def test_only_lenssteer_errors_are_raised_on_purpose():
    """Built-in exceptions are for our own mistakes; a user never causes one that we raise."""
    allowed = {"AttributeError", "_Done", "typer.Exit", "typer.BadParameter"}
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")}
    makers = {node.name for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
              and node.returns is not None and ast.unparse(node.returns) in vars(importlib.import_module("lenssteer.errors"))}
    for path, tree in trees.items():
        chosen = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg) and node.annotation is not None
                  and ast.unparse(node.annotation) == "type[LenssteerError]"}
        for node in ast.walk(tree):
            if isinstance(node, ast.Raise) and node.exc is not None:
                kind = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
                name = ast.unparse(kind)
                ours = name.endswith("Error") and not hasattr(builtins, name)
                assert name in allowed | chosen or name.split(".")[-1] in makers or name.startswith("_") or ours, f"{path}: {name}"


def test_readme_code_runs(capsys):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    space: dict[str, object] = {}
    for block in blocks:
        exec(compile(block.replace('load_model("demo")', 'load_model("demo", backend="hf")'), "README.md", "exec"), space)
    assert "degrees" in capsys.readouterr().out


def test_the_readme_lists_every_method():
    from lenssteer.recipe import CATALOGUE

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for method in CATALOGUE:
        assert f"`{method.name}`" in readme
        assert all(arxiv in readme for arxiv in re.findall(r"arXiv:\S+\d", method.source))


def test_no_pickle_and_no_remote_code():
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\bimport pickle|\bfrom pickle|from torch import .*\bload\b|trust_remote_code=True", text), path
        named = {ast.unparse(node) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Attribute)}
        assert "torch.load" not in named, path
