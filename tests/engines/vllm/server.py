"""`lenssteer serve`, or vLLM without lenssteer, in a process of its own, and a shelf of eight steerers for the demo model."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx

from tests.serving import free_port

SETTINGS: dict[str, tuple[dict[str, float], ...]] = {
    "none": ({},),
    "refusal": ({"degrees": 30}, {"degrees": 90}, {"degrees": 200}),
    "comply": ({}, {"coefficient": 1.5}),
    "caa": ({},),
    "ablation": ({}, {"strength": 0.5}),
    "cast": ({},),
    "to-angle": ({"degrees": 200},),
    "early": ({}, {"strength": 0.25}),
    "mirror": ({},),
}
"""What requests ask for: eight steerers with their parameters, and none."""


def make_shelf(folder: Path) -> Path:
    """Steerers and calibrations of the demo model: rotations, additions, ablation, gates, schedules, rules for tokens."""
    from lenssteer.models import load_model
    from lenssteer.recipe import calibrate
    from lenssteer.studies.demo import demo_contrast

    model = load_model("demo", backend="hf", check=False)
    norms, blocks = (calibrate(model, demo_contrast(), sites=sites) for sites in ("norm_out", "resid_post"))
    for name, calibration, how in (
        ("refusal", norms, None),
        ("comply", blocks, {"method": "addition", "ranges": {"coefficient": {"low": -3, "high": 3, "default": -1}}}),
        ("to-angle", norms, {"method": "adaptive-angular", "sites": "discriminative", "where": "generated",
                             "ranges": {"degrees": {"low": 0, "high": 360}}}),
    ):
        calibration.save(folder / name)
        if how is not None:
            (folder / name / "serve.json").write_text(json.dumps(how))
    blocks.steerer("caa", coefficient=-1.0).save(folder / "caa")
    blocks.steerer("ablation").save(folder / "ablation")
    blocks.steerer("cast", coefficient=-1.0).save(folder / "cast")
    blocks.steerer("addition", coefficient=-1.0).over("linear(8)").save(folder / "early")
    blocks.steerer("stmp", toward="negative").save(folder / "mirror")
    return folder


PLAIN = """
import sys
from lenssteer.engines.vllm.serve import parsed
from vllm.entrypoints.cli.serve import ServeSubcommand
from vllm.entrypoints.serve.utils.api_utils import cli_env_setup
arguments = parsed(sys.argv[1:])
cli_env_setup()
ServeSubcommand.cmd(arguments)
"""
"""`vllm serve`, whose command asks for a distribution of that name, which the CPU build has not."""


def plain_command(port: int, *arguments: str) -> list[str]:
    """vLLM's server of the demo model without plugin and middleware."""
    from lenssteer.models.loading import DEMOS

    return [sys.executable, "-c", PLAIN, str(DEMOS["demo"]), "--served-model-name", "demo", "--host", "127.0.0.1", "--port",
            str(port), "--dtype", "float32", *arguments]


class Server:
    """A server of the demo model.

    Args:
        shelf: What it serves; None for vLLM without lenssteer, whose arguments follow.
        log: Where its output goes.
        *arguments: Of `lenssteer serve`.
        **environment: Variables of its environment.
    """

    def __init__(self, shelf: Path | None, log: Path, *arguments: str, **environment: str) -> None:
        self.log = log
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = plain_command(self.port, *arguments) if shelf is None else [
            sys.executable, "-m", "lenssteer", "serve", "demo", "--steerers", str(shelf), "--port", str(self.port), "--dtype",
            "float32", *arguments]
        env = {"VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1", "VLLM_NO_USAGE_STATS": "1", **os.environ,
               "HF_HUB_OFFLINE": "1", **environment}
        with log.open("wb") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=output, env=env, start_new_session=True)

    def ready(self, seconds: float = 300.0) -> "Server":
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.process.poll() is None:
            try:
                if httpx.get(f"{self.url}/health", timeout=2).status_code == 200:
                    return self
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        self.close()
        raise RuntimeError(f"the server did not start:\n{self.log.read_text()[-3000:]}")

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        return httpx.post(self.url + path, json=body, headers=headers, timeout=60)

    def close(self) -> None:
        """Stop it with all its processes."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def memory_mib(self) -> float:
        """Memory of all its processes; a page that several share is divided among them."""
        return sum(self.memory_by_process().values())

    def memory_by_process(self, *parts: str) -> dict[str, float]:
        """The same by the names that vLLM gives them, in MiB.

        Args:
            *parts: Names in smaps_rollup, such as Pss_Anon for what no file backs; by default all of it. Pages of files count
                less while other programs map them too.
        """
        found: Counter[str] = Counter()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if os.getsid(int(entry.name)) == self.process.pid:
                        rollup, name = (entry / "smaps_rollup").read_text(), (entry / "comm").read_text().strip()
                        for part in parts or ("Pss",):
                            found[name] += int(rollup.partition(f"\n{part}:")[2].split()[0]) / 1024
                except (OSError, IndexError):
                    continue
        return dict(found)


def chat(text: str, steerer: str = "none", stream: bool = False, history: tuple[str, ...] = (),
         **more: Any) -> dict[str, Any]:
    """A greedy request for a chat completion, with what tells two answers apart."""
    asked = {"steerer": steerer, **more.pop("set", {})}
    turns = [{"role": role, "content": said} for role, said in zip(("user", "assistant") * len(history), history)]
    return {"model": "demo", "messages": [*turns, {"role": "user", "content": text}], "temperature": 0, "max_tokens": 24,
            "logprobs": True, "top_logprobs": 2, "return_token_ids": True, "stream": stream,
            "vllm_xargs": None if steerer == "none" else asked, **more}


def events(text: str) -> list[dict[str, Any]]:
    """What a stream told, without its end."""
    told = [line.removeprefix("data: ") for line in text.split("\n\n") if line.startswith("data: ")]
    assert told[-1] == "[DONE]", text[-300:]
    return [json.loads(one) for one in told[:-1]]
