"""What turns prompts into token ids, by hash: a direction belongs to what the model read when it was found."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

from lenssteer.errors import MismatchError

PROBES = ("The quick brown fox, 42 + 3.14e-7 = ?", "  two  spaces\n\n\ttab\r\n", "naïve café — “quotes” … 你好 мир 🙂",
          "def f(x):\n    return x**2  # comment", "")
"""Texts that tokenizers split in their own ways."""
_known: "WeakKeyDictionary[Any, str]" = WeakKeyDictionary()


class MismatchWarning(UserWarning):
    """An artefact that can be used here, but was made in other circumstances."""


def tokenizer_hash(tokenizer: Any) -> str:
    """Sixteen hex digits of a tokenizer's vocabulary and of the ids it gives to probe texts.

    Tokens that were added to it, such as one for padding, do not count, nor does the version of its library.

    Returns:
        "" for what is no Hugging Face tokenizer.
    """
    if not callable(getattr(tokenizer, "get_vocab", None)) or not callable(getattr(tokenizer, "encode", None)):
        return ""
    try:
        return _known[tokenizer]
    except (KeyError, TypeError):
        pass
    added = getattr(tokenizer, "get_added_vocab", dict)()
    own = sorted((token, int(i)) for token, i in tokenizer.get_vocab().items() if token not in added)
    ids = [list(tokenizer.encode(probe, add_special_tokens=False)) for probe in PROBES]
    found = _short([own, ids])
    try:
        _known[tokenizer] = found
    except TypeError:
        return found
    return found


def template_hash(tokenizer: Any, template: str) -> str:
    """Sixteen hex digits of the format that `template` names; see `lenssteer.prompts.chat`."""
    own = getattr(tokenizer, "chat_template", None)
    return _short(own or "none" if template in ("auto", "chat") else template)


def reading_of(tokenizer: Any, template: str) -> dict[str, str]:
    """What a record keeps of how prompts are read; `refuse_other_reading` compares it."""
    return {"tokenizer": tokenizer_hash(tokenizer), "chat_template": template_hash(tokenizer, template)}


def refuse_other_reading(record: Mapping[str, Any], tokenizer: Any, template: str) -> str:
    """Compare what a record says of tokenizer and template with those of a model.

    Args:
        record: Of a calibration: `tokenizer`, `chat_template` and `template` are compared where it has them.
        tokenizer: Of the model.
        template: The model's own format.

    Returns:
        What a warning would say where the format of that name is another; "" where all agrees.

    Raises:
        MismatchError: when the tokenizer is another: the model then reads other tokens than the direction was found on.
    """
    made, here = record.get("tokenizer"), tokenizer_hash(tokenizer)
    if made and here and made != here:
        raise MismatchError(f"made with another tokenizer ({made}, this model has {here}), so prompts would be read as "
                            "other tokens. Load the model with its own tokenizer, or calibrate with this one.")
    format_then, format_here = record.get("chat_template"), template_hash(tokenizer, template)
    if format_then and record.get("template") == template and format_then != format_here:
        return (f"made with another prompt format under the name {template!r} ({format_then}, here {format_here}); "
                "has the chat template been changed? Effects may differ from what was measured.")
    return ""


def _short(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode("utf-8", "surrogatepass")).hexdigest()[:16]
