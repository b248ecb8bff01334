"""No reader without a fuzz case, no writer that is not atomic, nothing pickled: found in the source itself."""

import ast
import re
from pathlib import Path

import lenssteer
from tests.artefacts.readers import READERS

PACKAGE = Path(lenssteer.__file__).parent
READS = {"load", "loads", "load_file", "safe_open", "read_text", "read_bytes", "open", "fdopen", "model_validate_json", "GGUFReader",
         "ParquetFile", "read_table", "opened", "read_lines", "read_object", "read_tensors", "reader", "DictReader"}
HOLDERS = {"json", "np", "numpy", "torch", "csv", "os", "pyarrow.parquet", "gguf", "package()"}
WRITES = {"write_text", "write_bytes", "save_file", "replace", "rename", "savez", "save"}

OURS = {
    "lenssteer.artefacts.parsing": "fuzzed through every reader",
    "lenssteer.artefacts.schema.record": "fuzzed through every reader",
    "lenssteer.artefacts.header": "read through lenssteer.artefacts.tensors and capture.store",
    "lenssteer.artefacts.writing": "opens what it writes",
    "lenssteer.artefacts.tensors": "fuzzed through every artefact",
    "lenssteer.report.page": "style sheets of the package",
    "lenssteer.models.memory": "/proc and cgroups",
    "lenssteer.cli.environment": "/proc",
    "lenssteer.bench.machine": "/proc",
    "lenssteer.bench.memory": "the output of its own process",
    "lenssteer.models.untrained": "a model it has just made",
    "lenssteer.bench.peers": "the output of its own process",
    "lenssteer.bench.peers_script": "what lenssteer.bench has just written for it",
    "lenssteer.evals.benchmarks.tasks": "hashes bytes; lenssteer.evals.benchmarks.local reads them",
    "lenssteer.models.described": "fuzzed as lenssteer.models.checkpoint",
    "lenssteer.cli.complete": "lenssteer's own source",
    "lenssteer.sweeps.folder": "a copy of its own header; the file is read by lenssteer.cells",
    "lenssteer.evals.judges.llm_reply": "a server's response; tests/evals/judges/test_llm_client.py",
    "lenssteer.engines.vllm.http_request": "a request; tests/engines/vllm/test_serve_http.py",
    "lenssteer.cli.eval": "its own result, as JSON gives it back",
    "lenssteer.engines.vllm.http_keys": "a file of keys, by whoever starts the server; tests/engines/vllm/test_serve_keys.py",
    "lenssteer.engines.vllm.http_answer": "vLLM's own answer",
    "lenssteer.engines.vllm.private": "lenssteer's own source",
}
"""Modules that read what no user hands over, and why."""


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(("lenssteer", *path.relative_to(PACKAGE).with_suffix("").parts))
        yield name.removesuffix(".__init__"), ast.parse(path.read_text(encoding="utf-8"))


def calls(tree):
    """Called names with what they are called on."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute):
                yield node.func.attr, ast.unparse(node.func.value), node
            elif isinstance(node.func, ast.Name):
                yield node.func.id, "", node


def reads(tree):
    for name, holder, node in calls(tree):
        if name in ("load", "loads", "reader") and holder not in HOLDERS:
            continue
        if name == "open" and holder not in ("", "os") and not any(isinstance(a, ast.Constant) and "r" in str(a.value) for a in node.args):
            continue
        if name in READS:
            return True
    return False


def test_every_module_that_reads_a_file_is_fuzzed():
    """A new reader belongs in tests/artefacts/readers.py; what no user hands over, in OURS with the reason."""
    covered = {module for reader in READERS for module in reader.covers}
    assert {name for name, tree in modules() if reads(tree)} - covered - OURS.keys() == set()


def test_what_is_said_to_be_covered_exists():
    names = {name for name, _ in modules()}
    assert {module for reader in READERS for module in reader.covers} - names == set()


def test_the_scan_finds_readers():
    """It must see the ways files are read, or the test above would pass on anything."""
    for code in ("json.loads(x)", "p.read_text()", "open(p)", "p.open('rb')", "safe_open(p)", "np.load(p)", "M.model_validate_json(x)"):
        assert reads(ast.parse(code)), code
    assert not reads(ast.parse("calibration.load(p)"))


def test_nothing_is_pickled():
    """No pickle, and no reader or writer that pickles by itself."""
    words = re.compile(r"\b(import (c?[pP]ickle|dill|cloudpickle|joblib|shelve|marshal)|from (c?[pP]ickle|dill|cloudpickle|joblib|shelve|marshal) import|"
                       r"torch\.(load|save)\(|read_pickle|to_pickle|allow_pickle=True|yaml\.(load|unsafe_load)\()")
    texts = {path: path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
    said = {path.name: found[0] for path, text in texts.items() for found in [words.search(_code(text))] if found}
    assert said == {}


def _code(text):
    """Without texts, which may explain how others' pickles are converted."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = ""
    return ast.unparse(tree)


def test_remote_code_stays_off():
    for path in PACKAGE.rglob("*.py"):
        assert not re.search(r"trust_remote_code\s*=\s*True", path.read_text(encoding="utf-8")), path
