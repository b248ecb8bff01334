"""vLLM's own OpenAI server with steerers: what is checked before it starts, and how it is started."""

import importlib.metadata
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lenssteer.engines.own_address import is_this_machine
from lenssteer.engines.vllm.asked import STEERER
from lenssteer.engines.vllm.http import DEFAULT, KEYS
from lenssteer.engines.vllm.http_keys import read_keys
from lenssteer.engines.vllm.layouts import layout_of
from lenssteer.engines.vllm.loading import refuse_narrow_heads
from lenssteer.engines.vllm.settings import STEERERS
from lenssteer.engines.vllm.shelf import Shelf
from lenssteer.engines.vllm.versions import require_vllm
from lenssteer.errors import ModelError, ParameterError
from lenssteer.models.described import describe
from lenssteer.models.loading import DEMOS

MIDDLEWARE = "lenssteer.engines.vllm.http.SteeringMiddleware"
GROUP, PLUGIN = "vllm.general_plugins", "lenssteer"
KEY = "VLLM_API_KEY"
COMPILATION = ("--compilation-config", "--compilation_config", "-cc", "-O")
NO_REPLAY = ("--compilation-config", '{"cudagraph_mode": "NONE"}')
"""A CUDA graph replays kernels and would call no edit; the compiled graph stays."""
ORIGINS = ("--allowed-origins", "--allowed_origins")
NO_PAGES = ("--allowed-origins", "[]")
"""By default vLLM lets the scripts of every web page read its answers."""


@dataclass(frozen=True)
class Serve:
    """What `lenssteer serve` starts.

    Args:
        model: "demo", "demo-chat", a folder, or a hub id.
        steerers: The shelf.
        host: Address to listen at.
        port: Where.
        api_key: What clients have to send; "" for none, which only an address of this machine may have.
        default: Steerer of requests that name none; "" for none.
        dtype: As vLLM takes it.
        more: Arguments for vLLM.
        keys: File of keys, with what each may do; None for none.
    """

    model: str
    steerers: Path
    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str = ""
    default: str = ""
    dtype: str = "auto"
    more: tuple[str, ...] = ()
    keys: Path | None = None

    @property
    def arguments(self) -> list[str]:
        """Of `vllm serve`; the key is not among them, since every user of a machine can read those."""
        folder = DEMOS.get(self.model, self.model)
        compiled = any(one.startswith(COMPILATION) for one in self.more)
        pages = any(one.startswith(ORIGINS) for one in self.more)
        return [str(folder), "--served-model-name", self.model, "--host", self.host, "--port", str(self.port),
                "--dtype", self.dtype, "--middleware", MIDDLEWARE, *([] if compiled else NO_REPLAY),
                *([] if pages else NO_PAGES), *self.more]

    def check(self) -> Shelf:
        """Refuse what would fail later or be open to everyone, before anything is loaded.

        Raises:
            ModelError: when vLLM is absent or of another version, its plugin is not installed, or it cannot steer the
                model.
            ParameterError: when others could reach the server without a key, or the default is not on the shelf.
            FileError: when the shelf cannot be served, or not with this model, or a key asks for what it does not have.
        """
        if self.keys is not None and self.api_key:
            raise ParameterError("both --keys and --api-key (or VLLM_API_KEY) say who may come in; give one of them.")
        if self.keys is None:
            require_open_key(self.host, self.api_key)
        shelf = Shelf.open(self.steerers)
        for key in read_keys(self.keys).keys if self.keys is not None else ():
            key.check(shelf.offers, self.default)
        if self.default:
            shelf.read({STEERER: self.default})
        require_vllm()
        require_plugin()
        card = describe(self.model, "vllm").card
        layout_of(card.architecture)
        shelf.check(card)
        return shelf


def require_open_key(host: str, api_key: str) -> None:
    """Refuse a server that other machines can reach without a key.

    Raises:
        ParameterError: with what to do.
    """
    if not api_key and not is_this_machine(host):
        raise ParameterError(f"host {host!r} can be reached from other machines; give --api-key, or listen at "
                             "127.0.0.1.")


def require_plugin() -> None:
    """Refuse an installation in which vLLM would not find the plugin, and serve every request unsteered.

    Raises:
        ModelError: with what to do.
    """
    names = {point.name for point in importlib.metadata.entry_points(group=GROUP)}
    if PLUGIN not in names:
        raise ModelError("vLLM would not find lenssteer's plugin: the installation is older than the plugin. Install "
                         "lenssteer again, with pip install 'lenssteer[vllm]'.")


def environment(serve: Serve) -> dict[str, str]:
    """The variables by which vLLM's processes know of the shelf; usage reports are off unless asked for."""
    plugins = os.environ.get("VLLM_PLUGINS")
    found = {STEERERS: str(serve.steerers.resolve()), DEFAULT: serve.default,
             "VLLM_NO_USAGE_STATS": os.environ.get("VLLM_NO_USAGE_STATS", "1")}
    if serve.keys is not None:
        found[KEYS] = str(serve.keys.resolve())
    if serve.api_key:
        found[KEY] = serve.api_key
    if plugins is not None:
        found["VLLM_PLUGINS"] = ",".join(dict.fromkeys([*filter(None, plugins.split(",")), PLUGIN]))
    return found


def run(serve: Serve) -> None:
    """Start a server that passed its check; returns when it is stopped.

    Raises:
        ModelError: when vLLM cannot run the model on this machine.
        ParameterError: when the arguments for vLLM undo what was checked.
    """
    os.environ.update(environment(serve))
    refuse_narrow_heads(describe(serve.model, "vllm"))
    from vllm.entrypoints.cli.serve import ServeSubcommand  # type: ignore[import-not-found]
    from vllm.entrypoints.serve.utils.api_utils import cli_env_setup  # type: ignore[import-not-found]

    arguments = parsed(serve.arguments)
    refuse_undone(arguments, serve)
    cli_env_setup()
    ServeSubcommand.cmd(arguments)


def parsed(arguments: Sequence[str]) -> Any:
    """What vLLM reads in its arguments."""
    from vllm.entrypoints.cli.serve import ServeSubcommand  # type: ignore[import-not-found]
    from vllm.utils.argparse_utils import FlexibleArgumentParser  # type: ignore[import-not-found]

    parser = FlexibleArgumentParser(prog="lenssteer serve MODEL --steerers DIR --")
    command = ServeSubcommand()
    command.subparser_init(parser.add_subparsers(required=True, dest="subparser"))
    found = parser.parse_args(["serve", *arguments])
    command.validate(found)
    return found


def refuse_undone(arguments: Any, serve: Serve) -> None:
    """Refuse arguments for vLLM under which requests would go unchecked, unsteered, or without receipts.

    Raises:
        ParameterError: with the argument.
    """
    own = next(iter(arguments.api_key or [""]), "")
    if serve.keys is None:
        require_open_key(arguments.host or "", serve.api_key or own)
    elif own or arguments.api_server_count not in (None, 1):
        raise ParameterError(f"{'--api-key' if own else '--api-server-count'} does not go with --keys, which are asked "
                             "for and counted in one process; leave it out.")
    from vllm import envs  # type: ignore[attr-defined]  # where vllm is absent

    _refuse({"--grpc": arguments.grpc, "--grpc-port": arguments.grpc_port is not None,
             "--headless": arguments.headless, "VLLM_USE_RUST_FRONTEND": envs.VLLM_USE_RUST_FRONTEND,
             "--data-parallel-size": arguments.data_parallel_size > 1},
            "would let requests pass by what steers them or keeps their receipts; leave it out. For more throughput, "
            "start one server for each device.")
    _refuse({"--enable-prompt-embeds": arguments.enable_prompt_embeds, "--enable-mm-embeds": arguments.enable_mm_embeds,
             "--allowed-local-media-path": arguments.allowed_local_media_path,
             "--trust-request-chat-template": arguments.trust_request_chat_template,
             "--trust-remote-code": arguments.trust_remote_code,
             "VLLM_SERVER_DEV_MODE": envs.VLLM_SERVER_DEV_MODE,
             "VLLM_ALLOW_RUNTIME_LORA_UPDATING": envs.VLLM_ALLOW_RUNTIME_LORA_UPDATING,
             "VLLM_ALLOW_INSECURE_SERIALIZATION": envs.VLLM_ALLOW_INSECURE_SERIALIZATION},
            "would let requests bring tensors, paths, templates or calls, or a model its own code; leave it out.")


def _refuse(given: Mapping[str, Any], why: str) -> None:
    for name, value in given.items():
        if value:
            raise ParameterError(f"{name} {why}")
