"""A long load of the server with keys: every kind of request, good and bad, while its memory is sampled.

    python -m tests.engines.vllm.load --minutes 60

Prints one JSON object, and ends with 1 where an answer has a status that its request does not call for, or memory still
grows in the second half of the time; memory is what no file backs. `--plain` puts the same requests, unsteered, to vLLM without lenssteer.

On CPUs vLLM keeps compiled kernels of every batch shape it has met (oneDNN's cache of primitives), which takes some 200 MiB
until all have been; `--kernels 1024` leaves that cache as it is, where by default it is turned off.
"""

import argparse
import asyncio
import json
import random
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from tests.engines.vllm.server import SETTINGS, Server, chat, make_shelf
from tests.engines.vllm.soak import BEFORE, CRAMPED

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
SAMPLED = 5.0
WARM = 120.0
"""Seconds until memory is compared with."""
MOST = 16.0
"""MiB by which memory may grow from the beginning to the end of the second half; in an hour a KiB a request is thrice that."""
WIDE: dict[str, Any] = {"requests_per_minute": None, "concurrent": None}
KEYS: dict[str, dict[str, Any]] = {
    "wide": {**WIDE, "max_tokens": 64, "max_prompt_tokens": 150},
    "narrow": {**WIDE, "max_tokens": 24, "steerers": {"refusal": {"degrees": {"low": -90, "high": 90}}, "comply": {}}},
    "slow": {"requests_per_minute": 30, "concurrent": 2},
}
DRAWN = {"good": 70, "many": 8, "left": 4, "wrong": 5, "keyless": 2, "large": 1, "reading": 4, "elsewhere": 2, "slow": 4}
"""Kinds of requests, and how many in a hundred."""


@dataclass
class Seen:
    """What was seen."""

    statuses: Counter[str] = field(default_factory=Counter)
    unexpected: list[str] = field(default_factory=list)
    memory: list[tuple[float, dict[str, float]]] = field(default_factory=list)


def keys_file(folder: Path) -> Path:
    """A file of keys; each key is its name."""
    keys = [{"name": name, "sha256": sha256(name.encode()).hexdigest(), **limits} for name, limits in KEYS.items()]
    (folder / "keys.json").write_text(json.dumps({"keys": keys, "concurrent": 30}))
    return folder / "keys.json"


def steering(drawn: random.Random, key: str) -> dict[str, Any]:
    """A steerer with parameters that were hardly asked for before."""
    name = drawn.choice(["refusal", "comply"] if key == "narrow" else list(SETTINGS))
    values = {"refusal": {"degrees": drawn.uniform(-90, 90)}, "comply": {"coefficient": drawn.uniform(-3, 3)},
              "to-angle": {"degrees": drawn.uniform(0, 360)}}
    return {"steerer": name, "set": values.get(name, {})}


def good(drawn: random.Random, texts: list[str], key: str, plain: bool) -> dict[str, Any]:
    asked = {} if plain else steering(drawn, key)
    history = BEFORE if key == "wide" and drawn.random() < 0.3 else ()
    return chat(drawn.choice(texts), stream=drawn.random() < 0.5, history=history, **asked)


def wrong(drawn: random.Random, texts: list[str]) -> Any:
    """A body that has to be refused."""
    body = chat(drawn.choice(texts))
    return drawn.choice([{**body, "vllm_xargs": {"steerer": "refusl"}}, {**body, "vllm_xargs": {"steerer": "refusal", "degrees": 1e6}},
                         {**body, "max_tokens": 65}, {**body, "temperature": -1}, {**body, "messages": []}, [], "{",
                         {**body, "vllm_xargs": {"steerer": f"made-up-{drawn.random()}"}}, {**body, "n": 100},
                         chat("word " * 160)])


async def ask(http: httpx.AsyncClient, drawn: random.Random, texts: list[str], plain: bool) -> tuple[str, int, set[int]]:
    """One request: its kind, its status, and the statuses it may have."""
    kind = drawn.choices(list(DRAWN), list(DRAWN.values()))[0]
    key = "slow" if kind == "slow" else drawn.choice(["wide", "narrow"])
    headers = {} if kind == "keyless" else {"authorization": f"Bearer {key}"}
    fine = {200} if plain else {200, 503}
    if kind == "reading":
        path = drawn.choice(["/v1/models", "/metrics", "/health", *([] if plain else ["/lenssteer/steerers"])])
        return kind, (await http.get(path, headers=headers)).status_code, fine
    if kind == "left":
        async with http.stream("POST", CHAT, json={**good(drawn, texts, key, plain), "stream": True}, headers=headers) as answer:
            await anext(answer.aiter_bytes())
        return kind, answer.status_code, fine
    path, body, may = CHAT, good(drawn, texts, key, plain), fine
    if kind == "many":
        path, body = COMPLETIONS, {"model": "demo", "prompt": drawn.sample(texts, 2), "n": 2, "max_tokens": 6}
    elif kind == "wrong":
        body, may = wrong(drawn, texts), {200, 400, 503} if plain else {400, 503}
    elif kind == "large":
        body, may = {**body, "user": "x" * (2 << 20)}, {200} if plain else {413, 503}
    elif kind == "elsewhere":
        path, may = drawn.choice(["/v1/responses", "/nowhere"]), {200, 400, 404, 405} if plain else {405, 503}
    elif kind in ("keyless", "slow") and not plain:
        may = {401} if kind == "keyless" else {200, 429, 503}
    return kind, (await http.post(path, json=body, headers=headers)).status_code, may


async def client(http: httpx.AsyncClient, texts: list[str], seen: Seen, seed: int, until: float, plain: bool) -> None:
    """One client, which rests with all others for a second in thirty, so that the engine idles."""
    drawn = random.Random(seed)
    while time.monotonic() < until:
        await asyncio.sleep(1.0 if time.monotonic() % 30 < 1 else 0)
        try:
            kind, status, may = await ask(http, drawn, texts, plain)
        except httpx.HTTPError as error:
            kind, status, may = type(error).__name__, 0, set()
        seen.statuses[f"{kind} {status}"] += 1
        await asyncio.sleep(0.2 if status in (429, 503) else 0)
        if status not in may:
            seen.unexpected.append(f"{kind} {status}")


async def watch(server: Server, seen: Seen, until: float) -> None:
    start = time.monotonic()
    while time.monotonic() < until:
        seen.memory.append((time.monotonic() - start, server.memory_by_process("Pss_Anon", "Pss_Shmem")))
        await asyncio.sleep(SAMPLED)


async def load(server: Server, minutes: float, clients: int, plain: bool) -> Seen:
    from lenssteer.models.demo.world import requests as prompts

    texts = [prompt.text for kind in ("harmful", "harmless") for prompt in prompts("test", kind)]
    seen, until = Seen(), time.monotonic() + 60 * minutes
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients, keepalive_expiry=2)
    async with httpx.AsyncClient(base_url=server.url, timeout=120, limits=limits) as http:
        await asyncio.gather(watch(server, seen, until),
                             *(client(http, texts, seen, seed, until, plain) for seed in range(clients)))
    return seen


def growth(memory: list[tuple[float, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """By process and in all: MiB at the start, when warm and at the end, and MiB an hour in the second half."""
    times = np.array([time for time, _ in memory])
    told = {}
    for name in [*sorted(memory[0][1]), "all"]:
        sizes = np.array([sum(one.values()) if name == "all" else one.get(name, 0.0) for _, one in memory])
        later = times >= times[-1] / 2
        fifth = max(1, int(later.sum()) // 5)
        grown = float(np.median(sizes[later][-fifth:]) - np.median(sizes[later][:fifth]))
        slope = float(np.polyfit(times[later], sizes[later], 1)[0]) * 3600 if later.sum() > 2 else 0.0
        told[name] = {"start": round(sizes[0], 1), "warm": round(float(sizes[np.searchsorted(times, min(WARM, times[-1]))]), 1),
                      "half": round(float(sizes[later][0]), 1), "end": round(sizes[-1], 1), "grown": round(grown, 1),
                      "mib_an_hour": round(slope, 1)}
    return told


def main() -> int:
    parser = argparse.ArgumentParser(description="Every kind of request for a long time, with the server's memory.")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--plain", action="store_true", help="vLLM without lenssteer.")
    parser.add_argument("--kernels", type=int, default=0, help="How many kernels oneDNN keeps; 1024 is its own default.")
    parser.add_argument("--log", type=Path, help="Where the server's output goes.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        own = ("--keys", str(keys_file(Path(folder))), "--")
        server = Server(None if given.plain else make_shelf(Path(folder) / "shelf"), given.log or Path(folder) / "log",
                        *(() if given.plain else own), *CRAMPED, ONEDNN_PRIMITIVE_CACHE_CAPACITY=str(given.kernels))
        try:
            seen = asyncio.run(load(server.ready(), given.minutes, given.clients, given.plain))
        finally:
            server.close()
    memory, total = growth(seen.memory), sum(seen.statuses.values())
    print(json.dumps({"minutes": given.minutes, "clients": given.clients, "plain": given.plain, "kernels": given.kernels,
                      "requests": total, "per_second": round(total / 60 / given.minutes, 1), "statuses": dict(sorted(seen.statuses.items())),
                      "unexpected": len(seen.unexpected), "examples": seen.unexpected[:5], "memory_mib": memory}, indent=2))
    return int(bool(seen.unexpected) or memory["all"]["grown"] > MOST)


if __name__ == "__main__":
    raise SystemExit(main())
