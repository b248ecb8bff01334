"""A LensModel, steered or not, as a model of lm-eval."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import has_bos_prefix, normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from lenssteer.engines.engine import Engine
from lenssteer.errors import ParameterError, PromptError
from lenssteer.evals.benchmarks.answering import answer_until, cut
from lenssteer.evals.benchmarks.saved import refuse_rows
from lenssteer.evals.benchmarks.scoring import Continuation, TokenScores, fit_context, score_continuations
from lenssteer.models import Decoding, LensModel
from lenssteer.prompts import Encoded, render
from lenssteer.steering import Receipt, Steerer

GENERATION = {"do_sample", "temperature", "top_p", "until", "max_gen_toks"}


class SteeredLM(TemplateLM):
    """What lm-eval asks of a language model, on any backend and under any steerer.

    The tokens are those of lm-eval's own Hugging Face model: the tokenizer's special tokens unless the text opens with
    BOS, contexts cut on the left. The context of a request is the prompt and its continuation the answer, so
    `Where("generated")` edits the continuation; the instruction is the user's last turn where a chat template was
    applied, and else the whole context. A text scored by itself is all answer, after one prefix token.

    Args:
        model: Its `template` is the one that `apply_chat_template` applies.
        steerer: On during every request; None for the unsteered model.
        batch_size: Most rows of a batch; None finds it from the memory that is free.
        seed: Of sampling; request i of a call samples with seed + i.
        progress: Whether to show bars.

    Raises:
        ParameterError: when the steerer has rows, which belong to prompts and not to requests.
    """

    def __init__(self, model: LensModel | Engine, steerer: Steerer | None = None, *, batch_size: int | None = None,
                 seed: int = 0, progress: bool = False) -> None:
        super().__init__()
        refuse_rows(steerer)
        self.lens: Any = model
        self.tokenizer = model.tokenizer
        self.steerer = steerer
        self.batch_size = batch_size
        self.seed = seed
        self.progress = progress
        self.receipts: list[tuple[str, Receipt]] = []
        self.counts = {"read": 0, "generated": 0, "shortened": 0}
        self._instructions: dict[str, tuple[str, str]] = {}

    @property
    def eot_token_id(self) -> int:
        """The tokenizer's end of text."""
        return self.tokenizer.eos_token_id

    @property
    def prefix_token_id(self) -> int:
        """What a text without context follows: BOS, or the end of text."""
        bos = self.tokenizer.bos_token_id
        return bos if bos is not None else self.eot_token_id

    @property
    def max_length(self) -> int:
        """Longest sequence of the model."""
        return self.lens.card.n_ctx

    @property
    def max_gen_toks(self) -> int:
        """Longest answer of a task that names none."""
        return 256

    @property
    def tokenizer_name(self) -> str:
        """Name of the tokenizer."""
        return str(self.tokenizer.name_or_path).replace("/", "__")

    @property
    def pattern(self) -> str | None:
        """The pattern that `apply_chat_template` fills; None where it applies the tokenizer's chat template."""
        return None if self.lens.template in ("auto", "chat") else self.lens.template

    def chat_template(self, chat_template: bool | str = False) -> str:
        """The template that would be applied; "" when none is asked for."""
        return str(self.pattern or self.tokenizer.chat_template) if chat_template else ""

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """A conversation as text.

        Raises:
            PromptError: when the model has no template, or it refuses the conversation.
        """
        if self.pattern is not None and (len(chat_history) > 1 or not add_generation_prompt):
            raise PromptError(f"the pattern {self.pattern!r} takes one turn that the model answers, got "
                              f"{len(chat_history)}; use a chat template, or no system prompt and no examples.")
        if not add_generation_prompt:
            return self._left_open(chat_history)
        prompt = chat_history if self.pattern is None else chat_history[0]["content"]
        found = render(self.tokenizer, prompt, template=self.pattern or "chat")
        self._instructions[found.text.rstrip()] = (found.text[: found.start], found.text[found.end :].rstrip())
        return found.text

    def _left_open(self, chat_history: list[dict[str, str]]) -> str:
        import jinja2

        try:
            return self.tokenizer.apply_chat_template(chat_history, tokenize=False, continue_final_message=True)
        except (jinja2.TemplateError, ValueError) as error:
            raise PromptError(f"the chat template cannot leave its last turn open: {error}") from error

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Token ids; a text that opens with BOS gets no special tokens."""
        if add_special_tokens is None and has_bos_prefix(string, self.tokenizer.decode(self.prefix_token_id)):
            add_special_tokens = False
        special = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        return self.tokenizer.encode(string, verbose=False, **special)

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """Log-probability of every continuation after its context, and whether it is what greedy decoding gives."""
        return super().loglikelihood(requests, disable_tqdm=True)

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = True) -> list[float]:
        """Log-probability of whole texts, in windows that overlap by one token."""
        windows: list[tuple[int, Continuation]] = []
        for number, request in enumerate(requests):
            ids = self.tok_encode(request.args[0])
            pairs = get_rolling_token_windows(ids, self.prefix_token_id, self.max_length, 1)
            windows += [(number, self._fit(*make_disjoint_window(pair))) for pair in pairs]
        totals = [0.0] * len(requests)
        for (number, _), (total, _) in zip(windows, self._score([one for _, one in windows]), strict=True):
            totals[number] += total
        return totals

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = True) -> list[str]:
        """The answer to every context, up to the first text of `until`, greedy or sampled.

        Raises:
            ParameterError: when a request wants what lenssteer's decoding has not.
            PromptError: when an answer leaves no room for its context.
        """
        answers = [""] * len(requests)
        asked = [self._asked(*request.args) for request in requests]
        eos = self.tokenizer.decode(self.eot_token_id)
        with self.steered("generate_until"):
            for decoding, until in dict.fromkeys(one[1:] for one in asked):
                rows = [i for i, one in enumerate(asked) if one[1:] == (decoding, until)]
                drawn = self.drawn([asked[i][0] for i in rows], until, decoding, rows)
                for i, ids in zip(rows, drawn, strict=True):
                    answers[i] = cut(self.tokenizer.decode(ids, skip_special_tokens=True), [*until, eos])
                    self.counts["read"] += len(asked[i][0].ids)
                    self.counts["generated"] += len(ids)
        return answers

    def drawn(self, prompts: Sequence[Encoded], until: Sequence[str], decoding: Decoding,
              rows: Sequence[int]) -> list[list[int]]:
        """Token ids of the answers; see `answer_until`."""
        return answer_until(self.lens, prompts, until, decoding, rows=rows, batch_size=self.batch_size,
                            progress="answering" if self.progress else "")

    def scored(self, wanted: Sequence[Continuation]) -> list[TokenScores]:
        """Scores of continuations; see `score_continuations`."""
        return score_continuations(self.lens, wanted, rows=self.batch_size,
                                   progress="scoring" if self.progress else "")

    def _asked(self, context: str, given: dict[str, Any]) -> tuple[Encoded, Decoding, tuple[str, ...]]:
        wanted: dict[str, Any] = dict(normalize_gen_kwargs(given, self.max_gen_toks))
        unknown = sorted(set(wanted) - GENERATION)
        if unknown:
            raise ParameterError(f"a task asks for {', '.join(unknown)} in its generation_kwargs; lenssteer decodes "
                                 f"with {', '.join(sorted(GENERATION))}.")
        room = self.max_length - wanted["max_gen_toks"]
        if room < 1:
            raise PromptError(f"answers of {wanted['max_gen_toks']} tokens leave no room for a question; the model "
                              f"takes {self.max_length} tokens in all.")
        temperature = float(wanted.get("temperature", 0.0)) if wanted["do_sample"] else 0.0
        decoding = Decoding(wanted["max_gen_toks"], temperature, float(wanted.get("top_p", 1.0)), self.seed)
        until = tuple(filter(None, wanted["until"]))
        ids = self.tok_encode(context)
        self.counts["shortened"] += len(ids) > room
        start, end = self._instruction(context, len(ids))
        cut_off = max(len(ids) - room, 0)
        kept = tuple(ids[cut_off:])
        return Encoded(kept, (max(start - cut_off, 0), max(end - cut_off, 0)), len(kept)), decoding, until

    def _loglikelihood_tokens(self, requests: Sequence[tuple[tuple[str, str], list[int], list[int]]],
                              **_: Any) -> list[tuple[float, bool]]:
        return self._score([self._fit(context, answer, texts[0]) for texts, context, answer in requests])

    def _fit(self, context: list[int], answer: list[int], text: str = "") -> Continuation:
        found = fit_context(context, answer, self._instruction(text, len(context)), self.max_length)
        self.counts["shortened"] += len(found.context.ids) < len(context)
        return found

    def _instruction(self, text: str, length: int) -> tuple[int, int]:
        """Token indices of the user's last turn, where the text came from a chat template."""
        around = self._instructions.get(text.rstrip())
        if around is None:
            return 0, length
        before, after = (len(self.tokenizer.encode(part, add_special_tokens=False)) for part in around)
        return min(before, length - after), length - after

    def _score(self, wanted: list[Continuation]) -> list[tuple[float, bool]]:
        if not wanted:
            return []
        with self.steered("loglikelihood"):
            found = self.scored(wanted)
        self.counts["read"] += sum(len(context.ids) for context in {one.context for one in wanted})
        self.counts["read"] += sum(len(one.ids) - 1 for one in wanted)
        return [(one.total, one.greedy) for one in found]

    @contextmanager
    def steered(self, kind: str) -> Iterator[None]:
        """The steerer is on, if there is one; its receipt is kept."""
        if self.steerer is None:
            yield
            return
        with self.steerer.on(self.lens) as receipt:
            yield
        self.receipts.append((kind, receipt))
