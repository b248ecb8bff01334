"""The one model type: a backend, its tokenizer, and the columns of the pass under way."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from threading import get_ident
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lenssteer.errors import SiteError, SteeringError
from lenssteer.models.cost import Cost
from lenssteer.models.protocol import Backend, Detach, Keep, ModelCard
from lenssteer.prompts import Columns, Encoded, Prompt, Tokens, encode
from lenssteer.site import Site, sites_of

SiteHook = Callable[[Tensor, Columns | None], Tensor | None]


class LensModel:
    """A language model with named sites, one token path and one decoding loop on every backend.

    Args:
        backend: HookedTransformer, TransformerBridge or plain transformers, adapted.
        tokenizer: Its Hugging Face tokenizer.
        stop_ids: Tokens that end an answer.
        template: How prompts are rendered unless a call says otherwise; see `lenssteer.prompts.chat`.

    `most_rows` is the size of batches where a call names none; None has it found. `most_cells` and `bytes_a_cell`
    remember, by kind of pass, how many rows times columns fit into memory after some did not, and what each took at
    most; see `models.sizing`.
    """

    def __init__(self, backend: Backend, tokenizer: Any, stop_ids: frozenset[int], template: str = "auto") -> None:
        self.backend = backend
        self.tokenizer = tokenizer
        self.stop_ids = stop_ids
        self.template = template
        self._passes: dict[int, Columns] = {}
        self._hooked: list[Site] = []
        self._costs: list[Cost] = []
        self._prompt_readers: list[Site] = []
        self.most_rows: int | None = None
        self.most_cells: dict[str, int] = {}
        self.bytes_a_cell: dict[str, float] = {}

    @property
    def card(self) -> ModelCard:
        """What identifies the model."""
        return self.backend.card

    @property
    def device(self) -> torch.device:
        """Where its inputs go."""
        return self.backend.device

    def sites(self, name: str) -> list[Site]:
        """All sites of a named set that the model has, in network order.

        Raises:
            SiteError: when the set is unknown, or the model lacks its streams.
        """
        sites = sites_of(name, self.card.n_layers)
        for site in sites:
            self.check_site(site)
        return sites

    def check_site(self, site: Site) -> None:
        """Refuse a site the model does not have.

        Raises:
            SiteError: with the layers and streams it has.
        """
        if site.layer >= self.card.n_layers:
            raise SiteError(f"{self.card.name} has layers 0 to {self.card.n_layers - 1}; asked for {site}.")
        if site.stream not in self.backend.streams:
            raise SiteError(f"{self.card.architecture} on backend {self.card.backend!r} has no {site.stream}; "
                            f"it has {', '.join(self.backend.streams)}.")

    def encode(self, prompts: Sequence[Prompt], *, template: str | None = None, system: str | None = None,
               answers: Sequence[str] | None = None) -> list[Encoded]:
        """Tokenise prompts for this model; see `lenssteer.prompts.encode`."""
        return encode(self.tokenizer, prompts, template=template or self.template, system=system, answers=answers,
                      n_ctx=self.card.n_ctx)

    @property
    def pad_id(self) -> int:
        """A valid token id for padding; which one never matters, since padding is masked."""
        pad = getattr(self.tokenizer, "pad_token_id", None)
        return pad if pad is not None else 0

    def attach(self, site: Site, hook: SiteHook) -> Detach:
        """Run `hook(activation, columns)` at a site until the returned function is called.

        Columns are None when somebody runs the underlying model directly. A hook whose attribute `reads_prompt` is
        False does not look at prompt tokens: in the pass over the prompt its activation may hold one row for several
        rows of `columns`. Copies made of the model meanwhile keep the hook, which does nothing once it is off.

        Raises:
            SiteError: when the model has no such site.
            SteeringError: when a pass is under way in another thread.
        """
        self.check_site(site)
        self._refuse_other_threads()
        reads_prompt, live = getattr(hook, "reads_prompt", True), True

        def through(h: Tensor) -> Tensor | None:
            return hook(h, self._passes.get(get_ident())) if live else None

        detach = self.backend.attach(site, through)
        self._hooked.append(site)
        if reads_prompt:
            self._prompt_readers.append(site)

        def leave() -> None:
            nonlocal live
            if not live:
                return
            live = False
            self._hooked.remove(site)
            if reads_prompt:
                self._prompt_readers.remove(site)
            detach()

        return leave

    def _refuse_other_threads(self) -> None:
        if self._passes.keys() - {get_ident()}:
            raise SteeringError(f"{self.card.name} is hooked, and another thread is in the middle of a pass; let one "
                                "thread at a time use a steered model, or load it twice.")

    @property
    def layers_before_hooks(self) -> int:
        """How many layers come before the first hook that looks at prompt tokens."""
        return min((site.layer for site in self._prompt_readers), default=self.card.n_layers)

    @torch.no_grad()
    def run(self, ids: Int[Tensor, "batch chunk"], columns: Columns, cache: Any = None,
            keep: Keep = "last") -> Float[Tensor, "batch kept vocab"]:
        """One pass over the columns of `ids`; hooks see `columns`."""
        real = columns.mask[:, columns.start : columns.start + ids.shape[1]]
        with self.passing(replace(columns, ids=ids), int(real.sum()) if self._costs else 0):
            return self.backend.forward(ids.to(self.device), columns.mask.to(self.device), cache, keep)

    def logits(self, tokens: Tokens) -> Float[Tensor, "batch pos vocab"]:
        """Logits at every column of a batch; meaningless at padding."""
        return self.run(tokens.ids, Columns(0, tokens.mask, tokens), keep="all")

    def require_finite(self, predictions: Float[Tensor, "*any"]) -> None:
        """Refuse what was predicted from activations that are not finite.

        Raises:
            SteeringError: with the number of rows, and the sites that have hooks now.
        """
        broken = ~torch.isfinite(predictions).flatten(1).all(-1)
        if broken.any():
            sites = ", ".join(str(site) for site in sorted(set(self._hooked)))
            raise SteeringError(f"predictions are not finite in {int(broken.sum())} of {len(broken)} rows, "
                                f"{f'with hooks at {sites}' if sites else 'without any hook'}; lower the coefficient, "
                                "or load the model in float32 or bfloat16.")

    @contextmanager
    def metered(self) -> Iterator[Cost]:
        """Count what passes through the model in a `with` block; blocks may be nested."""
        cost = Cost()
        self._costs.append(cost)
        try:
            with cost.timed():
                yield cost
        finally:
            self._costs.remove(cost)

    @contextmanager
    def passing(self, columns: Columns, tokens: float | int) -> Iterator[None]:
        """A pass of the backend: hooks see `columns`, and `tokens` are counted.

        Raises:
            SteeringError: when hooks are attached and a pass is under way in another thread.
        """
        thread = get_ident()
        outer = self._passes.get(thread)
        self._passes[thread] = columns
        try:
            if self._hooked:
                self._refuse_other_threads()
            for cost in self._costs:
                cost.count(tokens, goes_on=columns.start > 0)
            yield
        finally:
            if outer is None:
                del self._passes[thread]
            else:
                self._passes[thread] = outer
