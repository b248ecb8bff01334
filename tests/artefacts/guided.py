"""Coverage-guided fuzzing of the JSON readers and of the safetensors header; needs atheris, which no environment of lenssteer has.

    pip install atheris
    python -m tests.artefacts.guided -runs=200000

Inputs are the text of a description, after one byte that chooses the reader. Anything but a LenssteerError stops it.
"""

import sys
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import atheris  # pyright: ignore[reportMissingImports]

with atheris.instrument_imports(include=["lenssteer", "json"]):
    from lenssteer.artefacts.header import read_header
    from lenssteer.artefacts.parsing import parse
    from lenssteer.artefacts.schema.published import PUBLISHED
    from lenssteer.artefacts.schema.record import described
    from lenssteer.errors import LenssteerError

FIXTURES = Path(__file__).parent / "fixtures"
SCHEMAS = sorted(PUBLISHED)


def one(content: bytes) -> None:
    if not content:
        return
    chosen, text = content[0], content[1:]
    try:
        if chosen >= 200:
            read_header(BytesIO(text), len(text), "x")
        else:
            parse(text, "x")
            described(PUBLISHED[SCHEMAS[chosen % len(SCHEMAS)]], text, "x")
    except LenssteerError as error:
        str(error).encode()


def main() -> None:
    with TemporaryDirectory() as corpus:
        for number, file in enumerate(sorted(FIXTURES.rglob("*"))):
            if file.suffix in (".json", ".safetensors"):
                kind = file.stem if file.stem in SCHEMAS else ""
                first = bytes([SCHEMAS.index(kind)]) if kind else bytes([255 if file.suffix == ".safetensors" else 0])
                (Path(corpus) / str(number)).write_bytes(first + file.read_bytes())
        atheris.Setup([sys.argv[0], *sys.argv[1:], "-max_len=20000", "-rss_limit_mb=2048", "-timeout=20", corpus], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
