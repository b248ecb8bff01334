"""What a model folder holds, from its JSON files and the headers of its weights; no weight is read."""

import math
from pathlib import Path
from typing import Any

from lenssteer.artefacts import limits
from lenssteer.artefacts.header import Entry, read_header
from lenssteer.artefacts.reading import opened, read_object
from lenssteer.errors import FileError
from lenssteer.finding import Finding
from lenssteer.models.checkpoint import INDEX, SINGLE
from lenssteer.models.loading import DTYPES

OTHER_WEIGHTS = (".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx")
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model", "tekken.json")
GIB = 2**30


def inspect_folder(folder: Path, *, dtype: str = "float32", free: int | None = None) -> list[Finding]:
    """Config, weights, size, tokenizer and chat template of a model folder.

    Args:
        folder: In Hugging Face layout.
        dtype: What the weights would be loaded as; see `load_model`.
        free: Bytes of memory there are; None where unknown.
    """
    if not (folder / "config.json").is_file():
        return [Finding("config", "wrong", f"{folder} has no config.json", _what_else(folder))]
    config = _read(folder / "config.json")
    if config is None:
        return [Finding("config", "wrong", f"{folder / 'config.json'} is not a JSON object", "copy the model again")]
    return [_config(config), *_weights(folder, dtype, free), _tokenizer(folder), _template(folder)]


def _what_else(folder: Path) -> str:
    if (folder / "adapter_config.json").is_file():
        return "this is a LoRA adapter: merge it into its base model, and give that folder"
    if any(folder.glob("*.gguf")):
        return "GGUF files cannot be steered: give the original weights in Hugging Face layout"
    return "give a folder in Hugging Face layout: config.json, tokenizer and safetensors"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return read_object(path)[0]
    except (OSError, FileError):
        return None


def _config(config: dict[str, Any]) -> Finding:
    text = config.get("text_config") if isinstance(config.get("text_config"), dict) else config
    sizes = {"layers": ("num_hidden_layers", "n_layer"), "d_model": ("hidden_size", "n_embd"),
             "vocabulary": ("vocab_size",), "context": ("max_position_embeddings", "n_positions")}
    told = [f"{name} {value:,}" for name, keys in sizes.items() for value in [_first(text, keys)] if value is not None]
    kind = config.get("model_type")
    if not kind:
        return Finding("config", "wrong", "names no model_type", "copy the model's own config.json")
    return Finding("config", "ok", ", ".join([str(kind), *told]))


def _first(config: Any, keys: tuple[str, ...]) -> int | None:
    return next((config[key] for key in keys if isinstance(config.get(key), int)), None)


def _weights(folder: Path, dtype: str, free: int | None) -> list[Finding]:
    shards, fault = _shards(folder)
    if fault is not None:
        return [fault]
    values, stored = 0, set[str]()
    for shard in shards:
        header = _header(shard)
        if header is None:
            return [Finding("weights", "wrong", f"{shard.name} is cut short or no safetensors file", "copy it again")]
        values += sum(math.prod(entry.shape) for entry in header.values())
        stored |= {entry.dtype for entry in header.values()}
    files = "1 file" if len(shards) == 1 else f"{len(shards)} files"
    weights = Finding("weights", "ok", f"{_count(values)} parameters, stored as {', '.join(sorted(stored))} in {files}")
    return [weights, _memory(values, dtype, free)]


def _shards(folder: Path) -> tuple[list[Path], Finding | None]:
    index = _read(folder / INDEX)
    places = (index or {}).get("weight_map", {})
    found: list[Any] = list(places.values()) if isinstance(places, dict) else [None]
    if not all(isinstance(name, str) and "\0" not in name and Path(name).name == name for name in found):
        return [], Finding("weights", "wrong", f"{INDEX} names no files of this folder", "copy it again")
    names = sorted(set(found)) or [SINGLE]
    missing = [name for name in names if not (folder / name).is_file()]
    if not missing:
        return [folder / name for name in names], None
    others = sorted(path.name for path in folder.iterdir() if path.name.endswith(OTHER_WEIGHTS))
    if others and names == [SINGLE]:
        return [], Finding("weights", "note", f"{others[0]} and no safetensors; size unknown",
                           "save the model again with save_pretrained, which writes safetensors")
    return [], Finding("weights", "wrong", f"{len(missing)} of {len(names)} files are missing, the first is "
                       f"{missing[0]}", "copy them, or finish the download")


def _header(path: Path) -> dict[str, Entry] | None:
    """Names, dtypes and shapes; None where the file is none or ends before its last tensor."""
    try:
        with opened(path, limits.WEIGHTS) as file:
            return read_header(file, path.stat().st_size, path)
    except (OSError, FileError):
        return None


def _memory(values: int, dtype: str, free: int | None) -> Finding:
    need = values * DTYPES[dtype].itemsize
    said = f"{_size(need)} as {dtype}"
    if free is None:
        return Finding("memory", "note", f"{said}; how much is free is unknown")
    smaller = "load it with --dtype bfloat16, on a GPU, or on a larger machine" if dtype != "bfloat16" else \
        "load it on a GPU or a larger machine"
    said += f", {_size(free)} free"
    return Finding("memory", "ok", said) if need <= free else Finding("memory", "wrong", said, smaller)


def _size(amount: int) -> str:
    """
    >>> _size(1_040_128), _size(15_231_233_024)
    ('1.0 MiB', '14.2 GiB')
    """
    return f"{amount / GIB:.1f} GiB" if amount >= GIB else f"{amount / 2**20:.1f} MiB"


def _count(values: int) -> str:
    """
    >>> _count(260_032), _count(7_615_616_512)
    ('260 k', '7.6 B')
    """
    for size, unit in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if values >= size:
            return f"{values / size:.{0 if values >= 100 * size else 1}f} {unit}"
    return str(values)


def _tokenizer(folder: Path) -> Finding:
    found = [name for name in TOKENIZERS if (folder / name).is_file()]
    if found:
        return Finding("tokenizer", "ok", found[0])
    return Finding("tokenizer", "wrong", f"none of {', '.join(TOKENIZERS)}", "copy the tokenizer's files beside it")


def _template(folder: Path) -> Finding:
    config = _read(folder / "tokenizer_config.json") or {}
    if config.get("chat_template") or any((folder / f"chat_template.{end}").is_file() for end in ("jinja", "json")):
        return Finding("chat template", "ok", "the model's own")
    return Finding("chat template", "note", "none: prompts are read as they are",
                   "give the format it was trained on: --template 'User: {prompt}\\nBot:'")
