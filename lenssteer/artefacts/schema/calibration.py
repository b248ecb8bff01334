"""calibration.json: the moments of both classes at every site, and what was made of them."""

from typing import Annotated, Literal

from pydantic import Field

from lenssteer.artefacts.schema.record import Artefact, Card, Free, Origin, Record, SiteName, Text

Many = Annotated[int, Field(ge=1, le=10**12)]


class Counts(Record):
    """How many samples each class has; those divided by their norm are as many."""

    positive: Many
    negative: Many
    positive_unit: Many
    negative_unit: Many


class Plane(Record):
    """Where the plane came from; see `Plane`. Its basis is a tensor."""

    source: SiteName
    sign_rule: Text
    kind: Text = "pca"


class Calibration(Artefact):
    """A saved calibration; see `Calibration.save`. The table is for whoever reads it, and not read again."""

    kind: Literal["calibration"]
    model: Card
    plane: Plane | None
    rule: Text
    finder: Text = "mean_difference"
    sites: Annotated[list[SiteName], Field(min_length=1, max_length=10_000)]
    n: Counts
    direction: SiteName
    record: Origin
    table: list[Free]

    def shapes(self) -> dict[str, tuple[int | None, ...] | None]:
        means = {f"{name}/mean": (len(self.sites), self.model.d_model) for name in Counts.model_fields}
        return {**means, **({"plane": (2, self.model.d_model)} if self.plane else {})}

    def optional(self) -> dict[str, tuple[int | None, ...] | None]:
        """Tensors that may have been kept; those of both classes come together."""
        sites, d_model = len(self.sites), self.model.d_model
        kept: dict[str, tuple[int | None, ...] | None] = {
            f"samples/{name}": (sites, getattr(self.n, name), d_model) for name in ("positive", "negative")}
        return {**kept, **{f"{name}/scatter": (sites, d_model, d_model) for name in Counts.model_fields}}
