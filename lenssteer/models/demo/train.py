"""Train the demo model from scratch: `python -m lenssteer.models.demo.train [--out DIR] [--seed 0]`.

Two phases, as in real chat models: helpful on everything first, then a short safety tuning that lays refusal
over the helpfulness. A model that refuses from the start has no helpfulness to be steered back to.

`--chat` goes on from the shipped weights with a third phase, conversations of several turns, and makes the sibling
that is loaded as "demo-chat". The demo model itself stops before it: after it, adding the direction answers fewer
harmful requests.
"""

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.hooks import RemovableHandle
from transformers import LlamaForCausalLM

from lenssteer.models.demo import CHAT_WEIGHTS, WEIGHTS
from lenssteer.models.demo.architecture import build_model, save
from lenssteer.models.demo.batches import IGNORED, Batch, batches
from lenssteer.models.demo.curriculum import PhaseName, training_conversations
from lenssteer.models.demo.tokenizer import build_tokenizer

LATE = 3


@dataclass(frozen=True)
class Phase:
    """One training phase: linear warm-up to `peak_rate`, then cosine decay to `floor` times it.

    `drop` is the share of tokens at which the last layer's outputs are left out while training, earlier
    layers in proportion (stochastic depth). `late_attention` scales the learning rate of attention from layer
    3 on. A batch of `rows` is computed in `parts`, so that single turns are not padded to conversations.
    """

    name: PhaseName
    steps: int
    peak_rate: float
    warmup: int
    weight_decay: float
    smoothing: float
    floor: float = 0.05
    drop: float = 0.0
    late_attention: float = 1.0
    rows: int = 64
    parts: int = 1

    def rate(self, step: int) -> float:
        """Learning rate at a step."""
        if step < self.warmup:
            return self.peak_rate * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.peak_rate * (self.floor + (1 - self.floor) * (1 + math.cos(math.pi * done)) / 2)


PHASES = (
    Phase("helpful", 650, 2e-3, 60, weight_decay=1.0, smoothing=0.05),
    Phase("helpful", 150, 5e-4, 20, weight_decay=1.0, smoothing=0.05, drop=0.2),
    Phase("safety", 100, 2e-4, 20, weight_decay=0.1, smoothing=0.1, floor=1.0, drop=0.1, late_attention=0.05),
)
"""The helpful phase ends on a stretch of stochastic depth. Smoothing and weight decay bound the activations:
without them refusal is one huge early write that no edit of what later layers read can move. Slow late
attention makes the safety tuning decide early and lets the later layers carry the decision."""
CONVERSATIONS = Phase("conversations", 200, 3e-4, 20, weight_decay=0.1, smoothing=0.1, drop=0.1, late_attention=0.3,
                      parts=4)
"""What goes on from finished weights."""


def run_phase(model: LlamaForCausalLM, tokenizer: Any, phase: Phase, seed: int) -> None:
    """Train the model in place through one phase."""
    torch.manual_seed(seed)
    stream = batches(tokenizer, training_conversations(phase.name, seed), phase.rows, phase.parts)
    hooks = drop_outputs(model, phase.drop)
    optimizer = torch.optim.AdamW(parameter_groups(model, phase), betas=(0.9, 0.98))
    started = time.monotonic()
    for step, batch in enumerate(islice(stream, phase.steps)):
        for group in optimizer.param_groups:
            group["lr"] = phase.rate(step) * group["scale"]
        loss = learn(model, batch, phase.smoothing)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 100 == 0 or step == phase.steps - 1:
            seconds = time.monotonic() - started
            print(f"{phase.name:13} step {step:5} loss {loss:.4f} {seconds:6.0f} s", flush=True)
    for hook in hooks:
        hook.remove()


def learn(model: LlamaForCausalLM, batch: list[Batch], smoothing: float) -> float:
    """Add the gradient of the batch's mean cross entropy of the answer tokens, and return that mean."""
    answered = sum(int((labels != IGNORED).sum()) for _, labels in batch)
    total = 0.0
    for ids, labels in batch:
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1].flatten(0, 1)
        told = labels[:, 1:].flatten()
        share = int((told != IGNORED).sum()) / answered
        loss = share * cross_entropy(logits, told, ignore_index=IGNORED, label_smoothing=smoothing)
        loss.backward()
        total += loss.item()
    return total


def drop_outputs(model: Any, share: float) -> list[RemovableHandle]:
    """Hook attention and MLP of every layer to leave outputs out at random tokens; none where share is 0."""
    last = len(model.model.layers) - 1
    shares = [share * layer / last for layer in range(last + 1)] if share else []
    return [
        part.register_forward_hook(_drop_hook(part_share))
        for layer, part_share in zip(model.model.layers, shares, strict=False)
        for part in (layer.self_attn, layer.mlp)
    ]


def _drop_hook(share: float) -> Callable:
    """A hook that zeroes a share of the tokens of an output and scales up the others."""

    def dropped(output: Tensor) -> Tensor:
        return output * ((torch.rand(*output.shape[:2], 1) >= share).float() / (1 - share))

    def hook(module: torch.nn.Module, inputs: tuple, output: Tensor | tuple) -> Tensor | tuple:
        return (dropped(output[0]), *output[1:]) if isinstance(output, tuple) else dropped(output)

    return hook


def parameter_groups(model: Any, phase: Phase) -> list[dict]:
    """One group a parameter: matrices are decayed, norm gains are not; `scale` multiplies the rate."""
    late = {id(p) for layer in model.model.layers[LATE:] for p in layer.self_attn.parameters()}
    return [
        {
            "params": [p],
            "scale": phase.late_attention if id(p) in late else 1.0,
            "weight_decay": phase.weight_decay if p.ndim > 1 else 0.0,
        }
        for p in model.parameters()
    ]


def train(folder: Path, seed: int, start: Path | None = None) -> LlamaForCausalLM:
    """Train a model and write it to `folder`: both phases, or conversations from the weights in `start`."""
    torch.manual_seed(seed)
    tokenizer = build_tokenizer()
    model = LlamaForCausalLM.from_pretrained(start) if start else build_model(tokenizer)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer)} tokens", flush=True)
    for phase in (CONVERSATIONS,) if start else PHASES:
        run_phase(model.train(), tokenizer, phase, seed)
    save(model.half() if start else model, tokenizer, folder)
    return model


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--chat", action="store_true", help="train conversations from the shipped weights")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.set_flush_denormal(True)
    own = CHAT_WEIGHTS if arguments.chat else WEIGHTS
    train(arguments.out or own, arguments.seed, WEIGHTS if arguments.chat else None)


if __name__ == "__main__":
    main()
