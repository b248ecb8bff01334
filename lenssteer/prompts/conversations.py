"""Conversations from files: what the user says, turn by turn."""

from pathlib import Path
from typing import Any

from lenssteer.artefacts import limits
from lenssteer.artefacts.parsing import parse
from lenssteer.artefacts.reading import read_bytes
from lenssteer.errors import ParameterError, PromptError

KINDS = (".jsonl", ".json")


def read_conversations(path: Path | str, *, turns: int | None = None, chain: int = 1) -> list[tuple[str, ...]]:
    """The user's turns of every conversation of a file.

    A record is a list of strings, an object with "turns" (MT-Bench), or one with "messages", whose user turns count.

    Args:
        path: A .jsonl file, one record a line, or a .json list of them; UTF-8.
        turns: Longest conversation; later turns are left out.
        chain: So many records, one after the other, make one conversation; what is left over at the end is left out.

    Raises:
        PromptError: when the file is absent, of another kind, or a record is no conversation.
        ParameterError: when turns or chain is below 1, or the file has fewer records than one chain.
    """
    if chain < 1 or (turns is not None and turns < 1):
        raise ParameterError(f"expected at least one turn and a chain of at least 1; got {turns} and {chain}.")
    path = Path(path)
    if path.suffix.lower() not in KINDS or not path.is_file():
        raise PromptError(f"cannot read conversations from {path}: expected a file that ends in {' or '.join(KINDS)}.")
    records = _records(path)
    if not isinstance(records, list):
        raise PromptError(f"{path} holds a JSON {type(records).__name__}; expected a list of conversations.")
    said = [_said(record, f"{path}, record {number + 1}") for number, record in enumerate(records)]
    if len(said) < chain:
        raise ParameterError(f"{path} has {len(said)} conversations; a chain of {chain} needs as many.")
    chained = [sum(said[start : start + chain], ()) for start in range(0, len(said) - chain + 1, chain)]
    return [one[:turns] for one in chained]


def _records(path: Path) -> Any:
    fault = f"is not UTF-8 {path.suffix[1:].upper()}"
    try:
        text = read_bytes(path, limits.PROMPTS, error=PromptError).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(f"{path} {fault}: {error}") from error
    if path.suffix.lower() == ".json":
        return parse(text, path, fault=fault, error=PromptError)
    return [parse(line, f"{path}, line {number}", fault=fault, error=PromptError)
            for number, line in enumerate(text.split("\n"), start=1) if line.strip()]


def _said(record: Any, where: str) -> tuple[str, ...]:
    """The user's turns of one record."""
    turns: Any = record
    if isinstance(record, dict):
        turns = record.get("turns")
        if isinstance(record.get("messages"), list):
            turns = [message.get("content") for message in record["messages"]
                     if isinstance(message, dict) and message.get("role") == "user"]
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, str) and turn.strip() for turn in turns):
        raise PromptError(f'{where} is no conversation; expected a list of texts, or an object with "turns" or '
                          '"messages".')
    return tuple(turns)
