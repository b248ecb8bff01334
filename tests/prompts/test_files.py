import json

import pyarrow
import pyarrow.parquet
import pytest

from lenssteer.errors import PromptError
from lenssteer.prompts import read_prompts

PROMPTS = ["how do I bake a cake?", "wie geht's, é?", 'say "hi", please\nnow']


def write(folder, name: str) -> object:
    path = folder / name
    if name.endswith(".parquet"):
        pyarrow.parquet.write_table(pyarrow.table({"id": [1, 2, 3], "goal": PROMPTS}), path)
    elif name.endswith(".csv"):
        import csv

        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("id", "goal"), *enumerate(PROMPTS)])
    elif name.endswith(".jsonl"):
        path.write_text("\n".join(json.dumps({"id": 1, "goal": p}) for p in PROMPTS) + "\n\n", encoding="utf-8")
    elif name.endswith(".json"):
        path.write_text(json.dumps([{"id": 1, "goal": p} for p in PROMPTS]), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json", "a.parquet"])
def test_every_format_gives_the_same_prompts(tmp_path, name):
    path = write(tmp_path, name)
    assert read_prompts(path) == PROMPTS
    assert read_prompts(path, column="goal") == PROMPTS
    with pytest.raises(PromptError, match="its columns are id, goal"):
        read_prompts(path, column="prompt")


def test_text_files_hold_one_prompt_a_line(tmp_path):
    (tmp_path / "a.txt").write_text("\ufeffone\n\n two \n", encoding="utf-8")
    assert read_prompts(tmp_path / "a.txt") == ["one", " two "]


def test_lists_of_strings_are_prompts(tmp_path):
    (tmp_path / "a.json").write_text('["one", "two"]')
    (tmp_path / "a.jsonl").write_text('"one"\n"two"\n')
    assert read_prompts(tmp_path / "a.json") == read_prompts(tmp_path / "a.jsonl") == ["one", "two"]


@pytest.mark.parametrize(("name", "content", "message"), [
    ("a.txt", b"", "holds no prompts"),
    ("a.csv", b"", "holds no prompts"),
    ("a.txt", b"caf\xe9\n", "not UTF-8"),
    ("a.jsonl", b'{"prompt": "x"}\n{oops\n', "line 2 is not JSON"),
    ("a.jsonl", b"[1]\n", "holds a JSON list"),
    ("a.json", b'{"prompt": "x"}', "expected a list"),
    ("a.parquet", b"nonsense", "not a Parquet file"),
    ("a.docx", b"x", "expected one of"),
    ("a.csv", b"x,y\n1,2\n", "--column"),
    ("a.jsonl", b'{"prompt": "x"}\n{"prompt": 3}\n', "record 2 has no text"),
])
def test_broken_files_are_refused_with_the_reason(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PromptError, match=message):
        read_prompts(tmp_path / name)


def test_absent_files_are_refused(tmp_path):
    with pytest.raises(PromptError, match="no such prompt file"):
        read_prompts(tmp_path / "none.csv")
