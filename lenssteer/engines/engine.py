"""What the commands ask of an engine: answers and log-probabilities under steerers, and receipts of what was edited."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from lenssteer.models import Decoding, ModelCard
from lenssteer.models.cost import Cost
from lenssteer.prompts import Encoded, Prompt
from lenssteer.site import Site
from lenssteer.steering import Receipt, Steerer


@dataclass(frozen=True)
class AnswerScores:
    """A given answer under a model.

    Args:
        log_probs: Natural logarithm of each answer token's probability.
        greedy: Whether every token is the most likely one where it stands.
        top: At each token the most likely ids with their log-probabilities, as many as were asked for.
    """

    log_probs: tuple[float, ...]
    greedy: bool
    top: tuple[tuple[tuple[int, float], ...], ...] = ()


@runtime_checkable
class Engine(Protocol):
    """A language model that answers under steerers."""

    @property
    def card(self) -> ModelCard:
        """What identifies the model."""
        ...

    @property
    def dtype(self) -> str:
        """What it computes in, such as "float32"."""
        ...

    @property
    def tokenizer(self) -> Any:
        """Its Hugging Face tokenizer."""
        ...

    @property
    def stop_ids(self) -> frozenset[int]:
        """Tokens that end an answer."""
        ...

    @property
    def template(self) -> str:
        """How prompts are rendered unless a call says otherwise."""
        ...

    @property
    def receipts(self) -> tuple[Receipt | None, ...]:
        """Of the last call, one a part; None for an unsteered one."""
        ...

    def check_site(self, site: Site) -> None:
        """Refuse a site the model does not have.

        Raises:
            SiteError: with the layers and streams it has.
        """
        ...

    def encode(self, prompts: Sequence[Prompt], *, template: str | None = None, system: str | None = None,
               answers: Sequence[str] | None = None) -> list[Encoded]:
        """Tokenise prompts for this model; see `lenssteer.prompts.encode`."""
        ...

    def metered(self) -> AbstractContextManager[Cost]:
        """Count what passes through the model in a `with` block."""
        ...

    def answers(self, parts: Sequence[tuple[Steerer | None, int]], prompts: Sequence[Prompt],
                decoding: Decoding | None = None, *, template: str | None = None, system: str | None = None,
                progress: str = "") -> list[list[str]]:
        """Answers to every prompt under every setting; `parts` are those of `sweeps.stacked_answers`.

        Returns:
            One list of answers a setting, in order.

        Raises:
            SteeringError: when an edit fired nowhere or broke the activations.
        """
        ...

    def drawn(self, steerer: Steerer | None, prompts: Sequence[Encoded], decoding: Decoding, *,
              rows: Sequence[int] | None = None, progress: str = "") -> list[list[int]]:
        """Token ids of the answers to encoded prompts, without the token that stopped each.

        Args:
            steerer: None for the unsteered model.
            prompts: Encoded, without answers.
            decoding: How answers are drawn.
            rows: Number of each prompt, which samples with seed + number; by default their order.
            progress: Label of a progress bar; "" for none.

        Raises:
            SteeringError: when an edit fired nowhere or broke the activations.
        """
        ...

    def log_likelihoods(self, steerer: Steerer | None, wanted: Sequence[Encoded], *, top: int = 0,
                        progress: str = "") -> list[AnswerScores]:
        """Scores of the tokens from `prompt_end` on, which count as generated; the last is predicted but not fed.

        Args:
            steerer: None for the unsteered model.
            wanted: Prompts with their answers, together one token longer than the model's context at most.
            top: How many of the most likely ids to name at each token.
            progress: Label of a progress bar; "" for none.

        Raises:
            SteeringError: when an edit fired nowhere or broke the activations.
        """
        ...
