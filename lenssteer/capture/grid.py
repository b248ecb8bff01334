"""Class means at several positions of every prompt, from one pass: the candidates of a refusal direction."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from lenssteer.capture.capture import one_pass
from lenssteer.capture.encoding import encode_contrast
from lenssteer.capture.positions import ReadAt
from lenssteer.directions import Direction
from lenssteer.directions.candidates import DEGENERATE_RATIO
from lenssteer.errors import DirectionError, ParameterError
from lenssteer.models import LensModel
from lenssteer.models.sizing import fitting
from lenssteer.prompts import ContrastSet, Encoded, pad
from lenssteer.site import Site


@dataclass(frozen=True, eq=False)
class Grid:
    """Class means at every site and position.

    Args:
        sites: In network order.
        positions: Offsets from the end of the prompt, -1 its last token; ascending.
        positive: Means of the positive prompts.
        negative: Means of the negative prompts.
        counts: How many prompts of each class.
    """

    sites: tuple[Site, ...]
    positions: tuple[int, ...]
    positive: Float64[Tensor, "sites positions d_model"]
    negative: Float64[Tensor, "sites positions d_model"]
    counts: tuple[int, int]

    @property
    def usable(self) -> Bool[Tensor, "sites positions"]:
        """False where both classes have the same mean, as at the first block of a template's own tokens.

            |mean(x+) - mean(x-)| < 1e-4 * mean(|mean(x+)|, |mean(x-)|)
        """
        scale = (self.positive.norm(dim=-1) + self.negative.norm(dim=-1)) / 2
        return (self.positive - self.negative).norm(dim=-1) >= DEGENERATE_RATIO * scale.clamp_min(1e-300)

    def candidate(self, site: Site, position: int) -> Direction:
        """The difference in means at one site and position.

        Raises:
            DirectionError: when it was not captured, or both means are the same there.
        """
        if site not in self.sites or position not in self.positions:
            raise DirectionError(f"{site} at position {position} was not captured; there are {self.sites[0]} to "
                                 f"{self.sites[-1]} at positions {', '.join(map(str, self.positions))}.")
        i, k = self.sites.index(site), self.positions.index(position)
        if not self.usable[i, k]:
            raise DirectionError(f"both classes have the same mean at {site}, position {position}, so it has no "
                                 "direction; choose another.")
        difference = self.positive[i, k] - self.negative[i, k]
        length = difference.norm()
        vector = difference / length
        return Direction(vector, site, length.item(), (self.positive[i, k] @ vector).item(),
                         (self.negative[i, k] @ vector).item())


def capture_grid(
    model: LensModel,
    contrast: ContrastSet,
    sites: Sequence[Site],
    positions: Sequence[int] | None = None,
    *,
    template: str | None = None,
    system: str | None = None,
    batch_tokens: int | None = None,
    progress: str = "",
) -> Grid:
    """Class means at every site and position, from one pass over all prompts.

    Args:
        model: Steered or not.
        contrast: Both classes; they share batches.
        sites: Sites of the model.
        positions: Negative offsets from the end of the prompt; by default all template tokens after the
            instruction, -|I| to -1, where |I| is the fewest that a prompt has. Without a template, -1 alone.
        template: Prompt format; see `lenssteer.prompts.chat`.
        system: System prompt for all.
        batch_tokens: Most padded tokens of a batch; None finds it from the memory that is free.
        progress: Label of a progress bar; "" for none.

    Raises:
        ParameterError: when there are no sites or positions, or one stands twice or is not negative.
        PromptError: when a prompt has no token at a position.
        SteeringError: when an activation is not finite.

    Source: Arditi et al. 2024, arXiv:2406.11717, section 2.3: means in float64 at all post-instruction tokens.
    """
    sites = sorted(sites)
    encoded = encode_contrast(model, contrast, template=template, system=system)
    offsets = sorted(after_instruction(encoded) if positions is None else positions)
    if not sites or not offsets or len(set(sites)) < len(sites) or len(set(offsets)) < len(offsets):
        raise ParameterError(f"expected different sites and positions, got {len(sites)} sites and positions {offsets}.")
    picks = [ReadAt.offset(offset) for offset in offsets]
    sums = torch.zeros(2, len(sites), len(offsets), model.card.d_model, dtype=torch.float64)

    def read(group: list[int]) -> Tensor:
        tokens = pad([encoded[i] for i in group], pad_id=model.pad_id, rows=group)
        return one_pass(model, tokens, sites, torch.stack([pick.weights(tokens) for pick in picks], 1)).double()

    for group, found in fitting(model, encoded, read, tokens=batch_tokens, progress=progress):
        is_positive = torch.tensor(group) < len(contrast.positive)
        sums += torch.stack([found[:, is_positive].sum(1), found[:, ~is_positive].sum(1)])
    counts = len(contrast.positive), len(contrast.negative)
    return Grid(tuple(sites), tuple(offsets), sums[0] / counts[0], sums[1] / counts[1], counts)


def after_instruction(encoded: Sequence[Encoded]) -> list[int]:
    """Offsets of the template tokens that every prompt has after its instruction; at least the last token."""
    fewest = min(one.prompt_end - one.instruction[1] for one in encoded)
    return list(range(-max(fewest, 1), 0))
