"""vLLM in this process, as the commands use it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any

from lenssteer.engines.engine import AnswerScores
from lenssteer.engines.vllm.asked import INSTRUCTION_END, PROMPT_END, TICKET
from lenssteer.engines.vllm.private import by_row, shelved
from lenssteer.engines.vllm.receipts import receipt_of
from lenssteer.engines.vllm.sharing import Sharing, step_tokens, too_long
from lenssteer.errors import ParameterError, PromptError, SiteError, SteeringError
from lenssteer.models import Decoding
from lenssteer.models.cost import Cost
from lenssteer.models.described import Described
from lenssteer.models.protocol import ModelCard
from lenssteer.prompts import Encoded, Prompt, encode
from lenssteer.site import Site
from lenssteer.steering import Receipt, Steerer

Part = tuple[Steerer | None, int]
_tickets = count()


class VllmModel:
    """A model that vLLM runs; `load_vllm` makes one.

    Every prompt under every setting is one request, so settings share batches, whatever their steerers are.

    Args:
        llm: A `vllm.LLM` with the plugin.
        described: Its card, tokenizer and stop tokens.
        template: How prompts are rendered unless a call says otherwise.
        sites: Where it has an op.
    """

    def __init__(self, llm: Any, described: Described, template: str, sites: Sequence[Site]) -> None:
        self.llm = llm
        self.template = template
        self.installed = frozenset(sites)
        self._described = described
        self._step_tokens = step_tokens(llm.llm_engine.vllm_config.scheduler_config)
        self._costs: list[Cost] = []
        self._receipts: tuple[Receipt | None, ...] = ()

    @property
    def card(self) -> ModelCard:
        """What identifies the model."""
        return self._described.card

    @property
    def dtype(self) -> str:
        """What it computes in, such as "float32"."""
        return str(self.llm.llm_engine.model_config.dtype).removeprefix("torch.")

    @property
    def tokenizer(self) -> Any:
        """Its Hugging Face tokenizer."""
        return self._described.tokenizer

    @property
    def stop_ids(self) -> frozenset[int]:
        """Tokens that end an answer."""
        return self._described.stop_ids

    @property
    def receipts(self) -> tuple[Receipt | None, ...]:
        """Of the last call, one a part; None for an unsteered one.

        Tokens whose keys and values came from the prefix cache are not counted; tokens computed again are.
        """
        return self._receipts

    def check_site(self, site: Site) -> None:
        """Refuse a site at which the engine has no op.

        Raises:
            SiteError: with the sites it has.
        """
        if site.layer >= self.card.n_layers:
            raise SiteError(f"{self.card.name} has layers 0 to {self.card.n_layers - 1}; asked for {site}.")
        if site not in self.installed:
            streams = sorted({str(one.stream) for one in self.installed})
            raise SiteError(f"vLLM was started without {site}; it has ops at {', '.join(streams)}. Start it with "
                            f"sites={site.stream!r}.")

    def encode(self, prompts: Sequence[Prompt], *, template: str | None = None, system: str | None = None,
               answers: Sequence[str] | None = None) -> list[Encoded]:
        """Tokenise prompts for this model; see `lenssteer.prompts.encode`."""
        return encode(self.tokenizer, prompts, template=template or self.template, system=system, answers=answers,
                      n_ctx=self.card.n_ctx)

    @contextmanager
    def metered(self) -> Iterator[Cost]:
        """Count what passes through the model in a `with` block; tokens from the prefix cache are left out."""
        cost = Cost()
        self._costs.append(cost)
        try:
            with cost.timed():
                yield cost
        finally:
            self._costs.remove(cost)

    def answers(self, parts: Sequence[Part], prompts: Sequence[Prompt], decoding: Decoding | None = None, *,
                template: str | None = None, system: str | None = None, progress: str = "") -> list[list[str]]:
        """Answers to every prompt under every setting; see `Engine.answers`.

        Sampled answers have draws of their own, not those of other engines.

        Raises:
            ParameterError: when there are no settings or prompts, or a steerer is stacked for another number of rows.
            PromptError: when a prompt and its answer do not fit the model's context.
            SteeringError: when an edit fired nowhere or broke the activations.
        """
        decoding = decoding or Decoding()
        settings = sum(number for _, number in parts)
        if not settings or not prompts:
            raise ParameterError(f"expected prompts and settings; got {len(prompts)} and {settings}.")
        encoded = self.encode(prompts, template=template, system=system)
        longest = max(len(one.ids) for one in encoded) + decoding.max_new_tokens
        if longest > self.card.n_ctx:
            raise PromptError(f"prompt and answer may take {longest} tokens, the model takes {self.card.n_ctx}; "
                              "shorten the prompts or lower max_new_tokens.")
        outputs = self._run([(steerer, encoded * number) for steerer, number in parts], decoding, progress)
        texts = [self.tokenizer.decode(self._ids(output), skip_special_tokens=True).strip() for output in outputs]
        return [texts[i * len(prompts) : (i + 1) * len(prompts)] for i in range(settings)]

    def drawn(self, steerer: Steerer | None, prompts: Sequence[Encoded], decoding: Decoding, *,
              rows: Sequence[int] | None = None, progress: str = "") -> list[list[int]]:
        """Token ids of the answers to encoded prompts; see `Engine.drawn`.

        Raises:
            SteeringError: when an edit fired nowhere or broke the activations.
        """
        outputs = self._run([(steerer, list(prompts))], decoding, progress, numbers=rows)
        return [self._ids(output) for output in outputs]

    def log_likelihoods(self, steerer: Steerer | None, wanted: Sequence[Encoded], *, top: int = 0,
                        progress: str = "") -> list[AnswerScores]:
        """Scores of given answers; see `Engine.log_likelihoods`.

        The last token of an answer is generated, as the only one allowed, so that no edit meets it.

        Raises:
            PromptError: when an answer is empty, or does not fit the model's context.
            SteeringError: when an edit fired nowhere or broke the activations.
        """
        for one in wanted:
            if not 0 < one.prompt_end < len(one.ids) <= self.card.n_ctx + 1:
                raise PromptError(f"cannot score {len(one.ids) - one.prompt_end} answer tokens after {one.prompt_end} "
                                  f"context tokens; the model takes both, {self.card.n_ctx + 1} together at most.")
        outputs = self._run([(steerer, list(wanted))], None, progress, top)
        return [_scores(output, one, top) for output, one in zip(outputs, wanted, strict=True)]

    def _run(self, parts: Sequence[tuple[Steerer | None, list[Encoded]]], decoding: Decoding | None, progress: str,
             top: int = 0, numbers: Sequence[int] | None = None) -> list[Any]:
        """vLLM's outputs of every row of every part; decoding None scores the prompts."""
        for steerer, rows in parts:
            if steerer is not None:
                steerer.check(self)
                if wrong := self._too_long(steerer, rows):
                    raise SteeringError(wrong)
        requests, params, tickets = [], [], []
        for steerer, rows in parts:
            ticket = f"call {next(_tickets)}" if steerer is not None else ""
            tickets.append(ticket)
            for one, extra in zip(rows, _asked(steerer, rows, ticket), strict=True):
                requests.append({"prompt_token_ids": list(one.ids if decoding is not None else one.ids[:-1])})
                params.append(_scoring(one.ids[-1], top, extra) if decoding is None else self._sampling(
                    decoding, numbers[len(params)] if numbers else len(params), extra))
        before = self.llm.collective_rpc("lenssteer_steps")[0]
        outputs = self.llm.generate(requests, params, use_tqdm=False)
        self._count(outputs, self.llm.collective_rpc("lenssteer_steps")[0] - before)
        counts = self.llm.collective_rpc("lenssteer_counts", args=([one for one in tickets if one],))[0]
        self._receipts = tuple(receipt_of(counts[ticket]) if ticket else None for ticket in tickets)
        for receipt in self._receipts:
            if receipt is not None:
                receipt.require_fired()
        return outputs

    def _too_long(self, steerer: Steerer, rows: Sequence[Encoded]) -> str | None:
        longest = max(rows, key=lambda one: one.prompt_end)
        return too_long(Sharing.of("", steerer, *longest.instruction[1:], longest.prompt_end), self._step_tokens)

    def _sampling(self, decoding: Decoding, row: int, extra: dict[str, Any] | None) -> Any:
        from vllm import SamplingParams

        return SamplingParams(temperature=decoding.temperature, top_p=decoding.top_p,
                              max_tokens=decoding.max_new_tokens, stop_token_ids=sorted(self.stop_ids),
                              seed=decoding.seed + row if decoding.temperature else None, detokenize=False,
                              extra_args=extra)

    def _ids(self, output: Any) -> list[int]:
        ids = list(output.outputs[0].token_ids)
        return ids[:-1] if ids and ids[-1] in self.stop_ids else ids

    def _count(self, outputs: Sequence[Any], steps: int) -> None:
        for cost in self._costs:
            cost.prompt += sum(len(one.prompt_token_ids) - (one.num_cached_tokens or 0) for one in outputs)
            cost.generated += sum(len(one.outputs[0].token_ids) - 1 for one in outputs)
            cost.passes += steps


def _asked(steerer: Steerer | None, rows: Sequence[Encoded], ticket: str) -> list[dict[str, Any] | None]:
    """The `extra_args` of every row of a part."""
    if steerer is None:
        return [None] * len(rows)
    plain, which = by_row(steerer, len(rows))
    asked = [shelved(one) for one in plain]
    return [{**asked[kind], PROMPT_END: one.prompt_end, INSTRUCTION_END: one.instruction[1], TICKET: ticket}
            for kind, one in zip(which, rows, strict=True)]


def _scoring(last: int, top: int, extra: dict[str, Any] | None) -> Any:
    """Of a prompt and the answer behind it, whose last token is the one that may be generated."""
    from vllm import SamplingParams

    return SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=top, logprobs=top, allowed_token_ids=[last],
                          detokenize=False, extra_args=extra)


def _scores(output: Any, one: Encoded, top: int) -> AnswerScores:
    """Of the tokens behind the prompt, from what vLLM says of every token."""
    tables = [*output.prompt_logprobs[one.prompt_end :], output.outputs[0].logprobs[0]]
    said = list(zip(one.ids[one.prompt_end :], tables, strict=True))
    best = tuple(tuple((token, found.logprob) for token, found in sorted(table.items(), key=lambda item: item[1].rank)
                       if found.rank <= top) for _, table in said) if top else ()
    return AnswerScores(tuple(table[token].logprob for token, table in said),
                        all(table[token].rank == 1 for token, table in said), best)
