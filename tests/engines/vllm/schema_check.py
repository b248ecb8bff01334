"""schemathesis against the server with keys: requests drawn from its OpenAPI, and from what it does not allow.

    pip install schemathesis                       # in an environment of its own
    python -m tests.engines.vllm.schema_check --schemathesis PATH/schemathesis

Prints one JSON object with the counts, and ends with 1 where a check failed. The OpenAPI is vLLM's, of the paths that a key
with limits may use, with what lenssteer adds: `vllm_xargs`, the list of steerers, the key, and the statuses of limits. A second
run draws only what clients usually send, so that most requests are answered.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx

from lenssteer.engines.vllm.http import COUNTED, LISTING
from lenssteer.engines.vllm.http_request import CHAT, COMPLETIONS
from tests.engines.vllm.server import SETTINGS, Server, make_shelf

KEY = "schema-check"
LIMITS = {"max_tokens": 8, "max_prompt_tokens": 64, "max_body_bytes": 20_000, "requests_per_minute": None, "concurrent": None}
CHECKS = ("not_a_server_error", "content_type_conformance", "response_headers_conformance", "unsupported_method", "ignored_auth",
          "status_code_conformance")
READ = ("/v1/models", "/health", "/ping", "/version", "/load", LISTING)
STATUSES = {"400": "refused", "401": "no key", "403": "another site", "404": "no such model", "405": "no such method",
            "408": "no body came", "413": "too large", "415": "not JSON", "422": "not processable", "429": "too many", "503": "busy"}


def steering() -> dict[str, Any]:
    """Schema of `vllm_xargs`: the steerers of the shelf, with their numbers."""
    each = []
    for name, choices in SETTINGS.items():
        numbers = sorted({one for values in choices for one in values})
        each.append({"type": "object", "properties": {"steerer": {"const": name}, **{one: {"type": "number", "minimum": 0, "maximum": 1}
                                                                                    for one in numbers}},
                     "required": ["steerer", *numbers], "additionalProperties": False})
    return {"anyOf": [*each, {"type": "null"}]}


def usual() -> dict[str, dict[str, Any]]:
    """Bodies that clients usually send, so that most requests reach the engine."""
    text = {"type": "string", "minLength": 1, "maxLength": 30}
    number = lambda low, high, kind="number": {"type": kind, "minimum": low, "maximum": high}  # noqa: E731
    shared = {"model": {"const": "demo"}, "max_tokens": number(1, 4, "integer"), "n": number(1, 2, "integer"),
              "temperature": number(0.1, 2), "top_p": number(0.1, 1), "top_k": number(1, 50, "integer"), "min_p": number(0, 0.5),
              "seed": number(0, 2**31, "integer"), "stream": {"type": "boolean"}, "stop": {"type": "array", "items": text, "maxItems": 3},
              "presence_penalty": number(-2, 2), "frequency_penalty": number(-2, 2), "ignore_eos": {"type": "boolean"},
              "return_token_ids": {"type": "boolean"}, "user": text, "vllm_xargs": steering()}
    message = {"type": "object", "properties": {"role": {"enum": ["user", "assistant"]}, "content": text},
               "required": ["role", "content"], "additionalProperties": False}
    ids = {"type": "array", "items": number(0, 200, "integer"), "minItems": 1, "maxItems": 30}
    chat = {"messages": {"type": "array", "items": message, "minItems": 1, "maxItems": 3}, "logprobs": {"type": "boolean"}}
    plain = {"prompt": {"anyOf": [text, ids, {"type": "array", "items": text, "minItems": 1, "maxItems": 2}]},
             "echo": {"type": "boolean"}, "logprobs": number(0, 3, "integer")}
    return {path: {"type": "object", "properties": {**shared, **own}, "required": [*required, "model", "max_tokens"],
                   "additionalProperties": False}
            for path, own, required in ((CHAT, chat, ["messages"]), (COMPLETIONS, plain, ["prompt"]))}


def described(found: dict[str, Any]) -> dict[str, Any]:
    """The OpenAPI of what is checked."""
    found["paths"] = {path: found["paths"][path] for path in (*COUNTED, *READ) if path in found["paths"]}
    found["paths"][LISTING] = {"get": {"responses": {"200": {"description": "ok", "content": {"application/json": {"schema": {
        "type": "object", "required": ["default", "steerers"]}}}}}}}
    for path, methods in found["paths"].items():
        methods.pop("post" if path == "/ping" else "", None)
        for operation in methods.values():
            for status, meaning in STATUSES.items():
                operation["responses"].setdefault(status, {"description": meaning})
            if path not in ("/health", "/ping"):
                operation["security"] = [{"key": []}]
    found.setdefault("components", {})["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for name, schema in found["components"].get("schemas", {}).items():
        if name in ("ChatCompletionRequest", "CompletionRequest"):
            schema["properties"] |= {"vllm_xargs": steering(), "model": {"const": "demo"}}
    return found


def only_usual(found: dict[str, Any]) -> dict[str, Any]:
    """The same with nothing but usual bodies."""
    bodies = usual()
    paths = {path: found["paths"][path] for path in bodies}
    for path, body in bodies.items():
        paths[path]["post"]["requestBody"]["content"]["application/json"]["schema"] = body
    return {**found, "paths": paths}


def checked(program: str, described: dict[str, Any], folder: Path, url: str, *more: str) -> dict[str, Any]:
    """What schemathesis found."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "openapi.json").write_text(json.dumps(described))
    subprocess.run([program, "run", str(folder / "openapi.json"), "--url", url, "--header", f"Authorization: Bearer {KEY}", "--checks",
                    ",".join(CHECKS), "--phases", "coverage,fuzzing", "--seed", "7", "--continue-on-failure", "--no-shrink",
                    "--suppress-health-check", "all", "--warnings", "off", "--report", "json", "--report-json-path",
                    str(folder / "report.json"), "--generation-database", "none", "--no-color", *more],
                   check=False, stdout=sys.stderr)
    told = json.loads((folder / "report.json").read_text())
    return {"requests": told["test_cases"]["generated"], "operations": told["operations"]["tested"], "seconds": round(told["running_time"], 1),
            "complete": told["complete"], "errors": len(told["errors"]),
            "failures": [{name: one[name] for name in ("title", "count", "operations")} for one in told["failures"]]}


def statuses(log: str) -> dict[str, int]:
    """How often each path gave each status."""
    found = re.findall(r'"[A-Z]+ (/[^ ?]*)[^"]*" (\d+)', log)
    return {f"{path} {status}": count for (path, status), count in sorted(Counter(found).items()) if path in (*COUNTED, LISTING)}


def main() -> int:
    parser = argparse.ArgumentParser(description="schemathesis against the server.")
    parser.add_argument("--schemathesis", default="schemathesis", help="The program, of an environment of its own.")
    parser.add_argument("--examples", type=int, default=200, help="Most requests for each operation and phase.")
    parser.add_argument("--keep", type=Path, help="Folder for the OpenAPI, the reports and the server's log.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = given.keep or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "keys.json").write_text(json.dumps({"keys": [{"name": "k", "sha256": sha256(KEY.encode()).hexdigest(), **LIMITS}]}))
        server = Server(make_shelf(Path(made) / "shelf"), folder / "log", "--keys", str(folder / "keys.json")).ready()
        try:
            key = {"authorization": f"Bearer {KEY}"}
            found = described(httpx.get(f"{server.url}/openapi.json", headers=key, timeout=60).raise_for_status().json())
            told = {name: checked(given.schemathesis, paths, folder / name, server.url, "--max-examples", str(given.examples), *more)
                    for name, paths, more in (("all", found, ()), ("usual", only_usual(found), ("--mode", "positive")))}
            alive = httpx.get(f"{server.url}/health", timeout=60).status_code == 200
        finally:
            server.close()
        log = (folder / "log").read_text()
    print(json.dumps({**told, "statuses": statuses(log), "tracebacks_in_log": log.count("Traceback"), "alive": alive}, indent=2))
    return int(not alive or any(one["failures"] or one["errors"] or not one["complete"] for one in told.values()))


if __name__ == "__main__":
    raise SystemExit(main())
