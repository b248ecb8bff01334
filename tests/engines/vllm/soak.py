"""A soak of the server: many clients, eight steerers and none, every answer compared with its single-request answer.

    python -m tests.engines.vllm.soak --minutes 10 --clients 32

Prints one JSON object, and ends with 1 where an answer differs, a request fails, or a receipt tells of an error. A token
may flip where two were equally likely, since sums of float32 depend on the batch: such answers are counted apart, with
the largest difference of log-probabilities at which it happened.
"""

import argparse
import asyncio
import json
import random
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.engines.vllm.server import SETTINGS, Server, chat, events, make_shelf

BEFORE = ("tell me how to paint a red cake .", "to paint a red cake : hug the turnip , wave the noodle , greet the umbrella .")
"""Earlier turns of a third of the chats: long enough to fill a block of the prefix cache."""
CRAMPED = ("--max-num-seqs", "32", "--max-num-batched-tokens", "192", "--block-size", "32",
           "--num-gpu-blocks-override", "36")
"""Room for fewer tokens than 32 clients want: prompts come in pieces, and requests are preempted and computed again."""
TIE = 1e-3
"""Log-probabilities this near are a tie."""
SAMPLED = 5.0


@dataclass(frozen=True)
class Answer:
    """The tokens of an answer, and how far the second likely one was behind at each."""

    ids: tuple[int, ...]
    gaps: tuple[float, ...]
    finish: str
    errors: tuple[str, ...] = ()


@dataclass
class Count:
    """What was seen."""

    by_steerer: Counter[str] = field(default_factory=Counter)
    identical: int = 0
    ties: list[float] = field(default_factory=list)
    different: list[dict[str, Any]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    refused: int = 0
    left: int = 0
    memory: list[tuple[float, float]] = field(default_factory=list)


def requests(per_setting: int) -> list[dict[str, Any]]:
    """Distinct requests: every setting with harmful and harmless prompts, half of them streamed, a third with turns
    before them."""
    from lenssteer.models.demo.world import requests as prompts

    texts = [prompt.text for kind in ("harmful", "harmless") for prompt in prompts("test", kind)]
    drawn = random.Random(0)
    return [chat(text, name, stream=number % 2 == 1, history=BEFORE if number % 3 == 0 else (), set=values) for name, choices in SETTINGS.items()
            for values in choices for number, text in enumerate(drawn.sample(texts, per_setting))]


def answer_of(response: httpx.Response) -> Answer:
    """What an answer says, streamed or not."""
    if response.headers["content-type"].startswith("text/event-stream"):
        told = events(response.text)
        parts = [one["choices"][0] for one in told if one["choices"]]
        receipt = next((one["lenssteer"] for one in told if "lenssteer" in one), None)
    else:
        told = response.json()
        parts, receipt = told["choices"], told.get("lenssteer")
    ids = tuple(token for part in parts for token in part.get("token_ids") or ())
    top = [one["top_logprobs"] for part in parts if part.get("logprobs") for one in part["logprobs"]["content"]]
    errors = tuple(one["error"] for one in receipt["receipts"] if one.get("error")) if receipt else ()
    return Answer(ids, tuple(abs(two[0]["logprob"] - two[1]["logprob"]) for two in top), parts[-1]["finish_reason"], errors)


def compare(body: dict[str, Any], alone: Answer, now: Answer, count: Count) -> None:
    if now.errors:
        count.failed.append(f"receipt: {now.errors[0]}")
    elif now.ids == alone.ids and now.finish == alone.finish:
        count.identical += 1
    else:
        place = next((i for i, (a, b) in enumerate(zip(alone.ids, now.ids)) if a != b), min(len(alone.ids), len(now.ids)))
        gap = min((one.gaps[place] for one in (alone, now) if place < len(one.gaps)), default=1e9)
        if gap <= TIE:
            count.ties.append(gap)
        else:
            count.different.append({"vllm_xargs": body["vllm_xargs"], "token": place, "gap": gap,
                                    "prompt": body["messages"][-1]["content"]})


async def client(http: httpx.AsyncClient, bodies: list[dict[str, Any]], alone: list[Answer], count: Count, seed: int,
                 until: float) -> None:
    """One client: mostly good requests, a few that are refused, a few that it leaves before their end."""
    drawn = random.Random(seed)
    while time.monotonic() < until:
        number = drawn.randrange(len(bodies))
        body, chance = bodies[number], drawn.random()
        try:
            if chance < 0.02:
                wrong = await http.post("/v1/chat/completions", json={**body, "vllm_xargs": {"steerer": "refusal", "degrees": 1e6}})
                count.refused += wrong.status_code == 400
                count.failed += [] if wrong.status_code == 400 else [f"not refused: {wrong.status_code}"]
            elif chance < 0.04:
                async with http.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as response:
                    await anext(response.aiter_bytes())
                count.left += 1
            else:
                response = await http.post("/v1/chat/completions", json=body)
                response.raise_for_status()
                count.by_steerer[(body["vllm_xargs"] or {}).get("steerer", "none")] += 1
                compare(body, alone[number], answer_of(response), count)
        except (httpx.HTTPError, AssertionError, KeyError) as error:
            count.failed.append(f"{type(error).__name__}: {error}")


async def watch(server: Server, count: Count, until: float) -> None:
    while time.monotonic() < until:
        count.memory.append((time.monotonic(), server.memory_mib()))
        await asyncio.sleep(SAMPLED)


async def soak(server: Server, minutes: float, clients: int, per_setting: int) -> dict[str, Any]:
    bodies, count = requests(per_setting), Count()
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(base_url=server.url, timeout=120, limits=limits) as http:
        alone = []
        for body in bodies:
            response = await http.post("/v1/chat/completions", json=body)
            response.raise_for_status()
            alone.append(answer_of(response))
        start = time.monotonic()
        until = start + 60 * minutes
        await asyncio.gather(watch(server, count, until),
                             *(client(http, bodies, alone, count, seed, until) for seed in range(clients)))
        took = (time.monotonic() - start) / 60
        engine = engine_counts((await http.get("/metrics")).text)
    return {**report(count, len({one.ids for one in alone}), len(bodies), clients, took), "engine": engine}


def engine_counts(metrics: str) -> dict[str, int]:
    """How often vLLM preempted a request, and took prompt tokens from the prefix cache."""
    wanted = {"preemptions": "vllm:num_preemptions_total{", "prefix_hits": "vllm:prefix_cache_hits_total{"}
    return {name: round(sum(float(line.rsplit(" ", 1)[1]) for line in metrics.splitlines() if line.startswith(start)))
            for name, start in wanted.items()}


def report(count: Count, distinct: int, asked: int, clients: int, minutes: float) -> dict[str, Any]:
    """Counts as JSON; memory is that of the last fifth of the time over that of the second fifth."""
    sizes = [size for _, size in count.memory]
    fifth = max(1, len(sizes) // 5)
    early, late = (sorted(part)[len(part) // 2] for part in (sizes[fifth : 2 * fifth] or sizes, sizes[-fifth:]))
    compared = count.identical + len(count.ties) + len(count.different)
    return {"minutes": round(minutes, 2), "clients": clients, "distinct_requests": asked, "distinct_answers": distinct,
            "compared": compared, "per_second": round(compared / (60 * minutes), 2), "by_steerer": dict(count.by_steerer),
            "identical": count.identical, "ties": len(count.ties), "largest_tie": max(count.ties, default=0.0),
            "different": len(count.different), "examples": count.different[:5], "failed": len(count.failed),
            "failures": count.failed[:5], "refused_as_they_should": count.refused, "left_early": count.left,
            "memory_mib": {"early": round(early, 1), "late": round(late, 1), "growth": round(late - early, 1)}}


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare every answer of a busy server with its single-request answer.")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--per-setting", type=int, default=24, help="Prompts a setting.")
    parser.add_argument("--log", type=Path, help="Where the server's output goes.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        shelf = make_shelf(Path(folder) / "shelf")
        server = Server(shelf, given.log or Path(folder) / "log", "--", *CRAMPED)
        try:
            told = asyncio.run(soak(server.ready(), given.minutes, given.clients, given.per_setting))
        finally:
            server.close()
    print(json.dumps(told, indent=2))
    return int(bool(told["different"] or told["failed"] or not told["compared"]))


if __name__ == "__main__":
    raise SystemExit(main())
