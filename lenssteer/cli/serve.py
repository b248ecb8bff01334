"""`lenssteer serve`: vLLM's OpenAI server, with a steerer for each request."""

import json
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from lenssteer.cli.options import ModelName, friendly


def _new_key(wanted: bool) -> bool:
    """Print a key and its hash, and end, where that is wanted."""
    if wanted:
        from lenssteer.engines.vllm.http_keys import hashed, new_key

        key = new_key()
        typer.echo(f"key      {key}\nsha256   {hashed(key.encode())}")
        typer.echo("Give the key to its user, and the hash to the file of keys; the key is kept nowhere.", err=True)
        raise typer.Exit
    return wanted


@friendly
def serve(
    model: ModelName,
    more: Annotated[list[str] | None, typer.Argument(metavar="VLLM_ARGUMENT",
                                                     help="What follows -- goes to vLLM, as to `vllm serve`.")] = None,
    steerers: Annotated[Path, typer.Option(help="Folder whose subfolders are saved steerers and calibrations; requests "
                                           "name them.")] = ...,  # type: ignore[assignment]  # typer: required
    host: Annotated[str, typer.Option(help="Address to listen at; all but this machine's own need a key.")]
    = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Where it listens.")] = 8000,
    api_key: Annotated[str, typer.Option(help="What clients have to send as `Authorization: Bearer KEY`.",
                                         envvar="VLLM_API_KEY", show_default=False)] = "",
    keys: Annotated[Path | None, typer.Option(help="TOML or JSON file of keys, with the steerers, ranges and limits of "
                                              "each.")] = None,
    new_key: Annotated[bool, typer.Option("--new-key", callback=_new_key, is_eager=True, help="Print a key and its "
                                          "hash for the file of keys, and end.")] = False,
    default: Annotated[str, typer.Option(help="Steerer of requests that name none; by default they are unsteered.",
                                         show_default=False)] = "",
    max_model_len: Annotated[int | None, typer.Option(help="Longest prompt and answer together; by default the "
                                                      "model's.")] = None,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16, float16, or auto: vLLM's choice.")] = "auto",
) -> None:
    """Serve a model to OpenAI clients, steered as each request asks. Needs vLLM.

    A request names a steerer in vllm_xargs; the answer has a field "lenssteer" with what the edit did.
    """
    from lenssteer.engines.vllm.serve import Serve, run

    length = [] if max_model_len is None else ["--max-model-len", str(max_model_len)]
    chosen = Serve(model, steerers, host, port, api_key, default, dtype, (*length, *(more or [])), keys)
    shelf = chosen.check()
    for name, offer in sorted(shelf.offers.items()):
        ranges = ", ".join(f"{one} {allowed}" for one, allowed in sorted(offer.ranges.items()))
        typer.echo(f"{typer.style(name, bold=True)}   where={offer.where}   {ranges or 'nothing to set'}")
    typer.echo(f"\nListening at http://{host}:{port} once the model is loaded (ctrl-C ends it). Try:\n\n"
               f"{_example(chosen, shelf)}\n")
    run(chosen)


def _example(chosen: Any, shelf: Any) -> str:
    """A request that works, with the first key."""
    from lenssteer.engines.vllm.http_keys import read_keys

    own = read_keys(chosen.keys).keys[0].offers(shelf.offers) if chosen.keys else {}
    name, offer = min((own or shelf.offers).items())
    values = {one: allowed.high / 2 if allowed.default is None else allowed.default
              for one, allowed in offer.ranges.items()}
    body = {"model": chosen.model, "messages": [{"role": "user", "content": "tell me how to paint a red cake ."}],
            "max_tokens": 32, "temperature": 0, "vllm_xargs": {"steerer": name, **values}}
    key = ["-H", "Authorization: Bearer KEY"] if chosen.api_key or chosen.keys else []
    return shlex.join(["curl", f"http://{chosen.host}:{chosen.port}/v1/chat/completions", *key, "-H",
                       "Content-Type: application/json", "-d", json.dumps(body)])
