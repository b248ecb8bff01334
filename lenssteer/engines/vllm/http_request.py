"""A request's body on its way in: read, checked against the shelf, and given what the engine needs.

Prompts of steered and unsteered requests get the token ids that lenssteer gives them everywhere: exactly one BOS.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

from lenssteer.engines.vllm.asked import INSTRUCTION_END, PROMPT_LIMIT, STEERER, TICKET, Asked
from lenssteer.engines.vllm.http_keys import ANYONE, Key
from lenssteer.engines.vllm.http_prompt import chat_needs_bos, instruction_end, with_one_bos
from lenssteer.engines.vllm.http_refused import RefusedError
from lenssteer.engines.vllm.http_tokens import hold_to_tokens
from lenssteer.engines.vllm.shelf import Shelf
from lenssteer.errors import LenssteerError, ParameterError, PromptError

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
STEERED = (CHAT, COMPLETIONS)
ARGUMENTS = "vllm_xargs"


@dataclass(frozen=True)
class Incoming:
    """A body that may go to the engine.

    Args:
        body: As it is sent on.
        asked: The steerer it asks for; None for none.
    """

    body: bytes
    asked: Asked | None


def read_json(body: bytes) -> Any:
    """A JSON value.

    Raises:
        PromptError: when it is none, or holds numbers that JSON or text that Unicode does not have.
    """
    def refuse(constant: str) -> float:
        raise PromptError(f"the body holds {constant}, which is not a JSON number.")

    try:
        found = json.loads(body, parse_constant=refuse)
        if b"\\u" in body:
            json.dumps(found, ensure_ascii=False).encode()
        return found
    except (ValueError, RecursionError) as error:
        raise PromptError(f"the body is not JSON: {error}") from error


def incoming(path: str, body: bytes, shelf: Shelf, default: str, tokenizer: Any, *,
             own_template: bool = True, key: Key = ANYONE, models: Collection[str] = ()) -> Incoming:
    """Check a request for an answer, and rewrite it.

    Args:
        path: `CHAT` or `COMPLETIONS`.
        body: As it came.
        shelf: What is served.
        default: Name of the steerer of requests that name none; "" for none.
        tokenizer: Of the model.
        own_template: Whether chats are rendered with the tokenizer's own template.
        key: Whose request.
        models: Names that the model goes by; () for any. vLLM writes another into its log, whatever it holds.

    Raises:
        LenssteerError: when it asks for what cannot be had; the message is for the client.
    """
    request = read_json(body)
    if not isinstance(request, dict):
        raise PromptError("the body must be a JSON object.")
    if models and request.get("model") not in (None, *models):
        raise RefusedError(404, f"the server has no such model; it has {', '.join(models)}.")
    given = _arguments(request)
    asked = _asked({STEERER: default, **given} if default else given, shelf, key)
    hold_to_tokens(request, key, chat=path == CHAT)
    _one_bos(path, request, tokenizer, own_template)
    if asked is not None:
        shelf.steerer(asked)
        asked = replace(_located(asked, path, request, shelf, tokenizer, own_template), ticket=uuid4().hex)
        _refuse_unsteerable(request)
        given |= asked.extra_args
    if key.max_prompt_tokens is not None:
        given[PROMPT_LIMIT] = key.max_prompt_tokens
    request[ARGUMENTS] = given or None
    return Incoming(json.dumps(request).encode(), asked)


def _arguments(request: Mapping[str, Any]) -> dict[str, Any]:
    """What stands under `ARGUMENTS`; nothing that the server sets, and no tensor beside it."""
    given = request.get(ARGUMENTS) or {}
    if not isinstance(given, dict):
        raise ParameterError(f'{ARGUMENTS} must be an object such as {{"{STEERER}": "refusal"}}.')
    for name in (TICKET, PROMPT_LIMIT):
        if name in given:
            raise ParameterError(f"{name} is set by the server; leave it out.")
    if request.get("prompt_embeds"):
        raise ParameterError("the server takes text and token ids, not tensors; leave prompt_embeds out.")
    return dict(given)


def _asked(given: Mapping[str, Any], shelf: Shelf, key: Key) -> Asked | None:
    """What a request asks for, of what its key may have."""
    asked = shelf.read(given) if key.steerers is None else Asked.read(given, key.offers(shelf.offers))
    if asked is None and not key.unsteered:
        raise ParameterError(f"this key may not ask for unsteered answers; name a steerer with {STEERER}= in "
                             f"{ARGUMENTS}, one of {', '.join(sorted(key.offers(shelf.offers)))}.")
    return asked


def refuse_steering(request: Any, path: str) -> None:
    """Refuse a request that names a steerer where none is applied and checked.

    Raises:
        ParameterError: with the places where it is.
    """
    for holder in (request, *request.values()) if isinstance(request, dict) else ():
        for name in (ARGUMENTS, "extra_args"):
            found = holder.get(name) if isinstance(holder, Mapping) else None
            if isinstance(found, Mapping) and (STEERER in found or TICKET in found):
                raise ParameterError(f"{path} does not steer; use {' or '.join(STEERED)}.")


def _one_bos(path: str, request: dict[str, Any], tokenizer: Any, own_template: bool) -> None:
    if path == COMPLETIONS and request.get("add_special_tokens", True) is True:
        request["prompt"] = with_one_bos(tokenizer, request.get("prompt"))
    elif path == CHAT and own_template and "add_special_tokens" not in request and chat_needs_bos(tokenizer):
        request["add_special_tokens"] = True


def _located(asked: Asked, path: str, request: Mapping[str, Any], shelf: Shelf, tokenizer: Any,
             own_template: bool) -> Asked:
    """The same with the end of the instruction, where the steerer needs it and nobody said."""
    if shelf.offers[asked.name].where != "after_instruction" or asked.instruction_end is not None:
        return asked
    why = (f"steerer {asked.name!r} edits what comes after the instruction; ask at {CHAT} with messages of plain text "
           f"and the model's own template, or say where it ends with {INSTRUCTION_END}= in {ARGUMENTS}.")
    if path != CHAT or not own_template:
        raise PromptError(why)
    try:
        return replace(asked, instruction_end=instruction_end(tokenizer, request))
    except LenssteerError as error:
        raise PromptError(f"{why} {error}") from error


def _refuse_unsteerable(request: Mapping[str, Any]) -> None:
    if request.get("use_beam_search"):
        raise ParameterError("vLLM does not pass a steerer on to beam search; leave use_beam_search out.")
