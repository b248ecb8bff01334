"""Decoding steps as one compiled graph, with a cache of fixed size; hooks fire inside it.

Code that is compiled keeps the hooks it was compiled with and ignores later ones. So every site with a hook stands in
the graph as one opaque operator, which calls whatever is attached there at the time; every set of sites has a graph of
its own; and a step that met fewer sites than have hooks is an error. Prompts, whose lengths all differ, run as on
backend "hf".
"""

from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager
from inspect import unwrap
from itertools import count
from types import FunctionType
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lenssteer.errors import ModelError, SteeringError
from lenssteer.models.hf import HfBackend, hf_cache, hf_forward, hf_take_rows
from lenssteer.models.protocol import Detach, Edit, Keep
from lenssteer.site import Site

GRAPHS = 64
"""Graphs that are kept for a set of sites, by size of cache and batch. What comes after runs uncompiled, to the same
effect."""
SHORTEST = 64
"""Columns of the smallest cache; it doubles as answers grow."""

_attached: dict[int, list[Edit]] = {}
_met: dict[int, int] = defaultdict(int)
_numbers = count()


def _through(number: int, h: Tensor) -> Tensor | None:
    """What the edits of a site make of an activation; None where they leave it."""
    changed = None
    _met[number] += 1
    for edit in list(_attached[number]):
        new = edit(h if changed is None else changed)
        changed = changed if new is None else new
    return changed


@torch.library.custom_op("lenssteer::at_site", mutates_args=())
def at_site(h: Tensor, number: int) -> Tensor:
    """The edits of a site, as an operator that no compiler looks into; memory of `h` is reused, so they get a copy."""
    h = h.clone(memory_format=torch.contiguous_format)
    new = _through(number, h)
    return h if new is None else new.contiguous()


@torch.library.register_fake("lenssteer::at_site")
def _(h: Tensor, number: int) -> Tensor:
    return torch.empty_like(h, memory_format=torch.contiguous_format)


class StepCache:
    """Keys and values: as they come for the prompt, and in tensors of fixed size from the first step on."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.held: Any = hf_cache(model)
        self.size = 0

    def fix(self, columns: int) -> None:
        """Make room for so many columns in all."""
        if columns <= self.size:
            return
        size = SHORTEST
        while size < columns:
            size *= 2
        self._rebuild(size, lambda held: held)

    def take(self, index: Int[Tensor, " picked"]) -> None:
        """Keep some rows."""
        if self.size:
            self._rebuild(self.size, lambda held: held[index.to(held.device)])
        else:
            hf_take_rows(self.held, index)

    def _rebuild(self, size: int, chosen: Callable[[Tensor], Tensor]) -> None:
        from transformers import StaticCache

        fixed: Any = StaticCache(config=self.model.config.get_text_config(), max_cache_len=size)
        for old, new in zip(self.held.layers, fixed.layers, strict=True):
            filled = int(old.get_seq_length())
            keys, values = (chosen(part[:, :, :filled]) for part in (old.keys, old.values))
            new.lazy_initialization(keys, values)
            new.keys[:, :, :filled], new.values[:, :, :filled] = keys, values
            new.cumulative_length.fill_(filled)
        self.held, self.size = fixed, size


class CompiledBackend(HfBackend):
    """Plain transformers, whose decoding steps are compiled.

    On CUDA the step without hooks is replayed as a CUDA graph; a step with hooks is compiled without one, since a
    replay would not call them.

    Args:
        model: A Hugging Face causal language model.
        name: For its card.
        compiler: Backend of torch.compile.

    Raises:
        ModelError: when layers of the model see a sliding window, or a state that is no cache of keys and values.
    """

    dropped_at = 0.5

    def __init__(self, model: Any, name: str, compiler: str = "inductor") -> None:
        super().__init__(model, name)
        kinds = {type(layer).__name__ for layer in hf_cache(model).layers} - {"DynamicLayer"}
        if kinds:
            raise ModelError(f"compile=True is for models whose layers all keep every key and value; "
                             f"{self.card.architecture} has {', '.join(sorted(kinds))}. Leave compile out.")
        self._numbers: dict[Site, int] = {}
        self._hooks: dict[Site, Detach] = {}
        self._compiler = compiler
        self._steps: dict[tuple[Any, ...], Callable[..., Tensor]] = {}
        self._modules = list(model.modules())

    def attach(self, site: Site, edit: Edit) -> Detach:
        number = self._numbers.setdefault(site, next(_numbers))
        edits = _attached.setdefault(number, [])
        if not edits:
            self._hooks[site] = super().attach(site, lambda h: at_site(h, number) if torch.compiler.is_compiling()
                                               else _through(number, h))
        edits.append(edit)

        def detach() -> None:
            edits.remove(edit)
            if not edits:
                self._hooks.pop(site)()

        return detach

    def new_cache(self, batch: int) -> StepCache:
        return StepCache(self.model)

    def take_rows(self, cache: StepCache, index: Int[Tensor, " picked"]) -> StepCache:
        cache.take(index)
        return cache

    def fork(self, layer: int, copies: Int[Tensor, " batch"],
             cache: StepCache) -> AbstractContextManager[None] | None:
        return super().fork(layer, copies, cache.held)

    def forward(
        self,
        ids: Int[Tensor, "batch chunk"],
        mask: Bool[Tensor, "batch seen"],
        cache: StepCache | None = None,
        keep: Keep = "last",
    ) -> Float[Tensor, "rows kept vocab"]:
        if cache is None or ids.shape[1] == mask.shape[1]:
            return hf_forward(self.model, ids, mask, cache and cache.held, keep)
        cache.fix(mask.shape[1])
        if ids.shape[1] > 1:
            return hf_forward(self.model, ids, mask, cache.held, keep)
        positions = mask.sum(-1, keepdim=True) - 1
        seen = torch.nn.functional.pad(mask, (0, cache.size - mask.shape[1])).long()
        met = {site: _met[self._numbers[site]] for site in self._hooks}
        with torch._dynamo.config.patch(recompile_limit=GRAPHS):
            logits = self._compiled()(self.model, ids, seen, positions, cache.held).clone()
        passed = [str(site) for site, before in met.items() if _met[self._numbers[site]] != before + 1]
        if passed:
            raise SteeringError(f"the compiled step did not run the hooks at {', '.join(passed)}; load the model "
                                "without compile.")
        return logits

    def _compiled(self) -> Callable[..., Tensor]:
        """The step for the sites that have hooks now, and for as many torch hooks as others have put there.

        The compiler keeps what it made by the code it was made from, and does not ask whether hooks are still the
        same; so each set of sites has code of its own.
        """
        hooks = sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in self._modules)
        sites = (*sorted(self._hooks), hooks)
        if sites not in self._steps:
            step = unwrap(_step)
            code = step.__code__.replace(co_name=f"step_{len(self._steps)}")
            replayed = self.device.type == "cuda" and self._compiler == "inductor" and not hooks
            self._steps[sites] = torch.compile(FunctionType(code, step.__globals__, closure=step.__closure__),
                                               backend=self._compiler, mode="reduce-overhead" if replayed else None)
        return self._steps[sites]


def _step(model: Any, ids: Tensor, mask: Tensor, positions: Tensor, held: Any) -> Tensor:
    """Logits of one column."""
    given = {"attention_mask": mask, "position_ids": positions, "past_key_values": held, "use_cache": True}
    return model(input_ids=ids, **given).logits
