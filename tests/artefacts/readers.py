"""Every reader of a file that a user may be handed: what is damaged for it, and how it is asked to read.

A module that reads files and stands neither here nor in `OURS` fails a test.
"""

import csv
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FIXTURES = Path(__file__).parent / "fixtures"


@dataclass(frozen=True)
class Reader:
    """A reader.

    Args:
        name: Of the kind of file.
        make: Puts sound files into a folder.
        read: Reads them from there.
        covers: Modules of lenssteer whose reading it is.
        share: Of all cases, in parts.
    """

    name: str
    make: Callable[[Path], None]
    read: Callable[[Path], object]
    covers: tuple[str, ...]
    share: int = 4


def frozen(path: str) -> Callable[[Path], None]:
    """Copies a fixture's files."""
    source = FIXTURES / path
    files = [source] if source.is_file() else sorted(one for one in source.rglob("*") if one.is_file())
    kept = [(one.name if source.is_file() else str(one.relative_to(source)), one.read_bytes()) for one in files]

    def make(folder: Path) -> None:
        for name, content in kept:
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)

    return make


def written(name: str, content: bytes) -> Callable[[Path], None]:
    """Writes one file."""
    return lambda folder: (folder / name).write_bytes(content) and None


def steerer(folder):
    from lenssteer.steering import Steerer

    found = Steerer.load(folder)
    return found.sites, found.scaled(0.5), found.at("prompt"), found.gate and found.gate.conditions


def calibration(folder):
    from lenssteer.errors import DirectionError
    from lenssteer.recipe import Calibration

    found = Calibration.load(folder)
    try:
        return found.table(), found.plane, found.steerer("ablation"), set(found.record.get("seen", []))
    except DirectionError:
        raise
    finally:
        dict(found.record)


def refusal(folder):
    from lenssteer.recipe.refusal import RefusalDirection

    found = RefusalDirection.load(folder)
    return found.table(), found.steerer("ablation"), found.steerer("addition")


def saved(folder):
    from lenssteer.evals.benchmarks.saved import saved_steerer

    return saved_steerer(str(folder), "ablation", {}, None)


def store(folder):
    from lenssteer.capture.store import ActivationStore

    found = ActivationStore.open(folder)
    return [found.site(site) for site in found.sites]


def rows(folder):
    from lenssteer.rows import read_rows

    return [row.as_dict() for row in read_rows(folder / "rows.jsonl")]


def sweep(folder):
    from lenssteer.cells import read_run

    header, found = read_run(folder)
    return header, [(row.label, row.summary()) for row in found]


def sweep_page(folder):
    from lenssteer.report.runs import run_document

    return run_document(folder)


def sweep_resumed(folder):
    from lenssteer.sweeps.folder import FIXED, open_run

    header = {**json.loads((FIXTURES / "format_2/sweep/sweep.json").read_text()), "cells": []}
    with open_run(folder, {name: header[name] for name in (*FIXED, "n")}, ["0123456789abcdef"]) as run:
        return run.rows


def search(folder):
    from lenssteer.sweeps.search.record import open_record

    header = json.loads((FIXTURES / "format_2/search/search.json").read_text())
    lines = [json.loads(line) for line in (FIXTURES / "format_2/search/measured.jsonl").read_text().splitlines()]
    with open_record(folder, header) as record:
        for line in lines:
            record.replay(line["kind"], line["stage"], [row[0] for row in line["rows"]])
        return record.cost


def result(folder):
    from lenssteer.sweeps.search.result import read_result

    found = read_result(folder)
    return found.share, found.best and found.best.kept, found.as_dict()


def journal(folder):
    from lenssteer.sweeps.search.goal import Goal
    from lenssteer.sweeps.search.record import open_record
    from lenssteer.sweeps.search.space import Space
    from lenssteer.sweeps.search.trials import Trials

    with open_record(folder, json.loads((FIXTURES / "format_2/search/search.json").read_text())):
        trials = Trials(folder / "trials.journal", Space.grid("degrees=0:360:10"), Goal("on_form"), 0)
        trials.ask(0, 0.0)
        return trials.rows()


def auto(folder):
    from lenssteer.studies.auto.folder import read
    from lenssteer.studies.pages.auto import auto_document

    found = [read(folder / name) for name in ("auto.json", "tested.json", "card.json")]
    return auto_document(found[2]) if found[2] else None


def replies(folder):
    from lenssteer.evals.judges.llm_cache import ReplyCache

    cache = ReplyCache(folder)
    return cache.get("aa" * 32), len(cache)


def document(folder):
    from lenssteer.report import read_document

    return read_document(folder / "document.json")


def sae(folder):
    from lenssteer.saes import load_sae

    return load_sae(folder).rows


def prompts(name):
    def read(folder):
        from lenssteer.prompts import AnswerContrast, hashes, read_prompts, read_records

        found = hashes(read_prompts(folder / name))
        return found, AnswerContrast.from_pairs(read_records(folder / name)) if "json" in name else None

    return read


def conversations(name):
    def read(folder):
        from lenssteer.prompts.conversations import read_conversations

        return read_conversations(folder / name)

    return read


def questions(folder):
    from lenssteer.evals.open_ended.questions import read_instructions, read_questions

    return read_questions(folder / "q.jsonl"), read_instructions(folder / "q.jsonl")


def local_tasks(folder):
    from lenssteer.evals.benchmarks.local import mmlu_sample, truthfulqa

    return mmlu_sample.documents(str(folder / "mmlu.json")), truthfulqa.documents(str(folder / "t.csv"))


def shelf(folder):
    from lenssteer.engines.vllm.shelf import Shelf

    return Shelf.open(folder).entries


def record(folder):
    from lenssteer.cli.record import read_run

    return read_run(folder)


def compared(name):
    def read(folder):
        from lenssteer.artefacts.comparing import compare

        return compare(FIXTURES / name, folder)

    return read


def unfinished(folder):
    from lenssteer.artefacts.unfinished import unfinished

    with unfinished(folder, "trying", {}) as kept:
        return kept.found("a" * 64), kept.tensors("b" * 64, ("prompt", "activations"))


@cache
def pieces() -> dict[str, bytes]:
    """The files of what is kept of a result."""
    import torch

    from lenssteer.artefacts.unfinished import Unfinished

    with tempfile.TemporaryDirectory() as folder:
        kept = Unfinished(Path(folder), {})
        kept.keep("a" * 64, {"scores": [{"values": [1.0, None]}], "seconds": 0.5})
        for alone in (False, True):
            kept.keep_tensors("b" * 64, {"prompt": torch.arange(2 + alone), "activations": torch.ones(1, 2, 3)}, alone=alone)
        return {one.name: one.read_bytes() for one in Path(folder).iterdir()}


def unfinished_folder(folder: Path) -> None:
    for name, content in pieces().items():
        (folder / name).write_bytes(content)


def shelf_folder(folder: Path) -> None:
    frozen("format_3/calibration")(folder / "rotate")
    (folder / "rotate/serve.json").write_text(json.dumps(SERVE))


def vectors(name):
    def read(folder):
        from lenssteer.exports.arrays import read_arrays

        return read_arrays(folder / name)

    return read


def vector_files(folder: Path) -> None:
    import numpy as np
    import torch
    from safetensors.torch import save_file

    save_file({"1": torch.ones(8), "2": torch.zeros(8)}, folder / "v.safetensors", {"model": "tiny"})
    np.save(folder / "v.npy", np.ones((2, 8)))
    (folder / "v.json").write_text(json.dumps({"model": "tiny", "layers": {"1": [1.0, 2.0], "2": [0.5, 0.25]}}))


def gguf_vector(folder: Path) -> None:
    import gguf
    import numpy as np

    writer = gguf.GGUFWriter(folder / "v.gguf", "controlvector")
    writer.add_string("controlvector.model_hint", "llama")
    writer.add_uint32("controlvector.layer_count", 2)
    writer.add_tensor("direction.1", np.ones(8, np.float32))
    writer.add_tensor("direction.2", np.zeros(8, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def only(make: Callable[[Path], None], name: str) -> Callable[[Path], None]:
    """One of the files that `make` puts there."""

    def make_one(folder: Path) -> None:
        make(folder)
        for file in folder.iterdir():
            if file.name != name:
                file.unlink()

    return make_one


def checkpoint(folder):
    from lenssteer.models.checkpoint import Checkpoint

    return Checkpoint.open(folder)


def inspected(folder):
    from lenssteer.models.folder import inspect_folder

    return inspect_folder(folder)


def model_folder(folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"w": torch.ones(2, 3)}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": 8, "vocab_size": 5, "num_attention_heads": 2, "num_hidden_layers": 1}))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": "model.safetensors"}}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ x }}"}))


def runs(folder):
    from lenssteer.cli.runs import find_runs

    return list(find_runs(folder))


def parquet(folder: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"prompt": ["how do i paint a cake ?", "repeat : kite"], "n": [1, 2]}),
                                folder / "p.parquet")


def local_files(folder: Path) -> None:
    (folder / "mmlu.json").write_text(json.dumps([{"prompt": "x (A) y (B) z", "correct": "(A)", "incorrect": "(B)"}]))
    with (folder / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["Question", "Best Answer", "Correct Answers", "Incorrect Answers"],
                                    ["q?", "a", "a; b", "c; d"]])


MADE = {"command": "sweep", "options": {"target": "demo", "grid": ["degrees=0:360:90"]}, "inputs": {"p.txt": "ab" * 32},
        "models": [{"name": "demo"}], "versions": {"python": "3.11.7"}, "machine": {"system": "Linux", "threads": 1, "gpu": None}}
SERVE = {"method": "addition", "ranges": {"coefficient": {"low": -2.0, "high": 2.0, "default": 1.0}}, "sites": "all", "where": "prompt"}
PAIR = {"question": "A or B?", "answer_matching_behavior": "(A)", "answer_not_matching_behavior": "(B)", "prompt": "p"}
TALK = {"turns": ["hello there", "and then ?"], "question_id": 1, "category": "writing", "reference": ["x", "y"],
        "instruction": "say hello", "input": "now"}
ARTEFACTS = ("lenssteer.steering.files", "lenssteer.artefacts.tensors", "lenssteer.artefacts.reading")
CELLS = ("lenssteer.cells", "lenssteer.artefacts.lines")

READERS = (
    *(Reader(f"{kind} {version}", frozen(f"format_{version}/{kind}"), steerer, ARTEFACTS, share) for version, kind, share in (
        (1, "steerer", 4), (1, "steerer_rows", 1), (2, "steerer", 4), (2, "steerer_gated", 4), (2, "steerer_sae", 4),
        (2, "steerer_shared", 1), (3, "steerer", 6), (3, "steerer_gated", 6), (3, "steerer_sae", 4), (3, "steerer_rows", 1))),
    *(Reader(f"{kind} {version}", frozen(f"format_{version}/{kind}"), calibration, ARTEFACTS, share) for version, kind, share in (
        (1, "calibration", 3), (2, "calibration", 3), (2, "calibration_bare", 2), (3, "calibration", 6))),
    Reader("refusal 2", frozen("format_2/refusal"), refusal, ARTEFACTS),
    Reader("refusal 3", frozen("format_3/refusal"), refusal, ARTEFACTS),
    Reader("saved steerer", frozen("format_3/calibration"), saved, ARTEFACTS, 2),
    Reader("store 1", frozen("format_2/store"), store, ("lenssteer.capture.store",)),
    Reader("store 2", frozen("format_3/store"), store, ("lenssteer.capture.store",)),
    Reader("rows", frozen("format_2/rows.jsonl"), rows, ("lenssteer.rows",)),
    Reader("sweep 1", frozen("format_1/sweep"), sweep, CELLS, 2),
    Reader("sweep 2", frozen("format_2/sweep"), sweep, CELLS),
    Reader("sweep as a page", frozen("format_2/sweep"), sweep_page, CELLS, 2),
    Reader("sweep gone on with", frozen("format_2/sweep"), sweep_resumed, CELLS, 2),
    Reader("search", frozen("format_2/search"), search, ("lenssteer.sweeps.search.record",), 2),
    Reader("search result", frozen("format_2/search/result.json"), result, ("lenssteer.sweeps.search.result",)),
    Reader("search journal", frozen("format_2/search"), journal, ("lenssteer.sweeps.search.trials",), 1),
    Reader("auto", frozen("format_2/auto"), auto, ("lenssteer.studies.auto.folder",)),
    Reader("judge cache", frozen("format_2/replies"), replies, ("lenssteer.evals.judges.llm_cache",)),
    Reader("report", frozen("format_2/document.json"), document, ("lenssteer.report.files",)),
    Reader("autoencoder", frozen("format_2/sae"), sae, ("lenssteer.saes.files",)),
    Reader("prompts txt", written("p.txt", b"paint a cake\nrepeat : kite\n"), prompts("p.txt"), ("lenssteer.prompts.files",), 1),
    Reader("prompts csv", written("p.csv", b'prompt,n\n"paint, a ""cake""",1\nkite,2\n'), prompts("p.csv"), ("lenssteer.prompts.files",)),
    Reader("prompts json", written("p.json", json.dumps([PAIR, PAIR]).encode()), prompts("p.json"), ("lenssteer.prompts.files",)),
    Reader("prompts jsonl", written("p.jsonl", (json.dumps(PAIR) + "\n").encode() * 2), prompts("p.jsonl"), ("lenssteer.prompts.files",)),
    Reader("prompts parquet", parquet, prompts("p.parquet"), ("lenssteer.prompts.files",), 2),
    Reader("conversations json", written("c.json", json.dumps([TALK, ["a", "b"]]).encode()), conversations("c.json"), ("lenssteer.prompts.conversations",)),
    Reader("conversations jsonl", written("c.jsonl", (json.dumps(TALK) + "\n").encode() * 2), conversations("c.jsonl"), ("lenssteer.prompts.conversations",)),
    Reader("questions", written("q.jsonl", (json.dumps(TALK) + "\n").encode() * 2), questions, ("lenssteer.evals.open_ended.questions",), 2),
    Reader("local tasks", local_files, local_tasks, ("lenssteer.evals.benchmarks.local.mmlu_sample", "lenssteer.evals.benchmarks.local.truthfulqa"), 2),
    Reader("run record", written("run.json", json.dumps({"kind": "run", "format": 1, "commands": [MADE, MADE]}).encode()), record, ("lenssteer.cli.record",)),
    Reader("compared sweep", frozen("format_2/sweep"), compared("format_2/sweep"), ("lenssteer.artefacts.comparing",), 2),
    Reader("compared calibration", frozen("format_3/calibration"), compared("format_3/calibration"), ("lenssteer.artefacts.comparing",), 2),
    Reader("pieces", unfinished_folder, unfinished, ("lenssteer.artefacts.unfinished",), 2),
    Reader("shelf", shelf_folder, shelf, ("lenssteer.engines.vllm.entry",), 2),
    *(Reader(f"vectors {kind}", only(vector_files, f"v.{kind}"), vectors(f"v.{kind}"), ("lenssteer.exports.arrays",), 2)
      for kind in ("safetensors", "npy", "json")),
    Reader("vectors gguf", gguf_vector, vectors("v.gguf"), ("lenssteer.exports.arrays",), 4),
    Reader("checkpoint", model_folder, checkpoint, ("lenssteer.models.checkpoint", "lenssteer.models.described"), 2),
    Reader("model folder", model_folder, inspected, ("lenssteer.models.folder",), 2),
    Reader("list of runs", frozen("format_2"), runs, ("lenssteer.cli.runs",), 1),
)
