"""The schemas as JSON Schema, by the file they describe.

    python -m lenssteer.artefacts.schema.published docs/schemas
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from lenssteer.artefacts.schema import auto, calibration, cells, refusal, replies, rows, run, search, steerer, store
from lenssteer.artefacts.schema.record import Artefact, Record
from lenssteer.artefacts.writing import write_text

ARTEFACTS: Mapping[str, type[Artefact]] = {
    "steerer": steerer.Steerer, "calibration": calibration.Calibration, "refusal": refusal.Refusal}
"""Folders with a description and tensors, by their kind."""
PUBLISHED: Mapping[str, type[Record]] = {
    **ARTEFACTS, "store": store.Store, "row": rows.Row, "sweep": cells.Sweep, "cell": cells.Cell,
    "search": search.Search, "measured": search.Batch, "result": search.Result, "auto": auto.Asked,
    "tested": auto.Tested, "card": auto.AutoCard, "reply": replies.Reply, "run": run.Run}
"""What describes a file, or a line of one."""


def schema_of(name: str) -> str:
    """JSON Schema of a file or of its lines, as text."""
    found = PUBLISHED[name].model_json_schema()
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **found}, indent=1) + "\n"


def publish(folder: Path | str) -> list[Path]:
    """Write every schema into a folder; the files.

    Raises:
        FileError: when it cannot be written.
    """
    paths = {name: Path(folder) / f"{name}.schema.json" for name in PUBLISHED}
    for name, path in paths.items():
        write_text(path, schema_of(name))
    return list(paths.values())


if __name__ == "__main__":
    publish(sys.argv[1])
