"""The one edit: read a few coordinates of an activation, update them, write the change back.

    c  = read h + bias                              c: [rank]
    u  = open(c) * (gain c + offset + r * radial)   r = |c|, or |h - proj h|, over what is also written
    h' = h + u write
    norm "preserve": h' is rescaled to |h|;  norm "cap": h' is never longer than |h|

`gate[i, j]` is +1 where coordinate i is edited only if c_j > threshold_j, -1 where only if c_j < threshold_j,
0 where c_j does not matter; comparisons are strict, and every condition of a coordinate must hold.

Every array may carry a leading `rows` axis of its own: row i of a batch then gets edit i, and what is shared by
all rows is stored, and multiplied, once. The cost is O(rank * d_model) a token.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lenssteer.edits.arithmetic import spread
from lenssteer.edits.plan import Plan
from lenssteer.edits.stacking import padded, stacked
from lenssteer.errors import ParameterError, ShapeError

Norm = Literal["none", "preserve", "cap"]
Radius = Literal["plane", "complement"]
CORE_DIMS = {"read": 2, "write": 2, "bias": 1, "gain": 2, "offset": 1, "radial": 1, "gate": 2, "threshold": 1}


@dataclass(frozen=True, eq=False)
class LowRankEdit:
    """A frozen low-rank map on activations; see the module for its formula.

    Args:
        read: What is read, one coordinate a line, [rank, d_model].
        write: What is written for each coordinate, [rank, d_model].
        gain: How coordinates drive the update, [rank, rank].
        offset: Constant part of the update, in units of the coordinates.
        radial: Part of the update proportional to the radius.
        bias: Added to the coordinates when read; minus the coordinate of a centre.
        gate: Conditions on coordinates, in {-1, 0, +1}; None leaves every token open.
        threshold: What gated coordinates are compared with.
        norm: Whether the edited activation keeps ("preserve") or may not exceed ("cap") its norm. What an update
            would make zero, up to rounding, has no direction to be rescaled in: "preserve" leaves it as it is.
        radius: "plane" multiplies `radial` by |c|; "complement" by |h - c read|, for orthonormal `read` only.
            Coordinates that are read and never written count in neither.

    Raises:
        ShapeError: when shapes, dtypes or devices disagree.
        ParameterError: when a value is not finite, or a gate entry is not -1, 0 or +1.
    """

    read: Float[Tensor, "*#rows rank d_model"]
    write: Float[Tensor, "*#rows rank d_model"]
    gain: Float[Tensor, "*#rows rank rank"]
    offset: Float[Tensor, "*#rows rank"]
    radial: Float[Tensor, "*#rows rank"]
    bias: Float[Tensor, "*#rows rank"]
    gate: Float[Tensor, "*#rows rank rank"] | None = None
    threshold: Float[Tensor, "*#rows rank"] | None = None
    norm: Norm = "none"
    radius: Radius = "plane"

    def __post_init__(self) -> None:
        rank, d_model = self.read.shape[-2:]
        core = {"read": (rank, d_model), "write": (rank, d_model)}
        for name, tensor in self.tensors().items():
            expected = core.get(name, (rank,) * CORE_DIMS[name])
            extra = tensor.ndim - len(expected)
            if extra not in (0, 1) or tuple(tensor.shape[extra:]) != expected:
                raise ShapeError(f"{name} has shape {list(tensor.shape)}; expected {list(expected)}, "
                                 "with at most one leading `rows` axis.")
            if not torch.isfinite(tensor).all():
                raise ParameterError(f"{name} holds values that are not finite; check what it was computed from.")
        if len(self._row_counts) > 1:
            raise ShapeError(f"arrays carry different numbers of rows: {sorted(self._row_counts)}.")
        if (self.gate is None) != (self.threshold is None):
            raise ParameterError("gate and threshold come together; give both or neither.")
        if self.gate is not None and not torch.isin(self.gate, torch.tensor([-1, 0, 1]).to(self.gate)).all():
            raise ParameterError("gate entries must be -1, 0 or +1.")

    def tensors(self) -> dict[str, Tensor]:
        """The arrays by name, without the gate's where it is open."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in named.items() if isinstance(value, Tensor)}

    @cached_property
    def _row_counts(self) -> set[int]:
        return {t.shape[0] for name, t in self.tensors().items() if t.ndim > CORE_DIMS[name]}

    @property
    def rows(self) -> int | None:
        """How many rows the edit steers differently; None when all rows get the same edit."""
        return next(iter(self._row_counts), None)

    @cached_property
    def is_radial(self) -> bool:
        """Whether the update depends on a radius."""
        return bool(self.radial.any())

    @cached_property
    def is_constant(self) -> bool:
        """Whether every activation gets the same update, so that nothing needs to be read."""
        return self.gate is None and not self.is_radial and not self.gain.any()

    @cached_property
    def constant(self) -> Float[Tensor, "*#rows one d_model"]:
        """The change that every activation gets where the update is constant."""
        return self.offset.unsqueeze(-2) @ self.write

    @cached_property
    def affine(self) -> tuple[Float[Tensor, "*#rows rank d_model"], Float[Tensor, "*#rows rank"]]:
        """From an activation to its update without radius and gate: matrix gain read, shift gain bias + offset."""
        return self.gain @ self.read, (self.gain @ self.bias.unsqueeze(-1)).squeeze(-1) + self.offset

    @cached_property
    def written(self) -> Float[Tensor, "*#rows rank"]:
        """1 for coordinates that are written, 0 for those that only open gates."""
        return (self.write != 0).any(-1).to(self.write)

    @cached_property
    def plan(self) -> Plan:
        """How it is applied, with all that is the same for every activation worked out."""
        return Plan(self)

    @property
    def rank(self) -> int:
        """Number of coordinates read and written."""
        return self.read.shape[-2]

    @property
    def d_model(self) -> int:
        """Width of the activations the edit is for."""
        return self.read.shape[-1]

    def __call__(self, h: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """Apply the edit to `h`; the same as `apply_edit(self, h)`."""
        return apply_edit(self, h)

    def scaled(self, strength: float | int | Float[Tensor, "*#rows"]) -> "LowRankEdit":
        """The same edit with its update multiplied: 0 is the identity, 1 the edit itself.

        A tensor [rows] scales each row by its own. A norm rule is applied after scaling.

        Raises:
            ParameterError: when the strength is not finite.
            ShapeError: when it has another number of rows than the edit.
        """
        factor = torch.as_tensor(strength, dtype=self.gain.dtype, device=self.gain.device)
        if factor.ndim > 1 or not torch.isfinite(factor).all():
            raise ParameterError(f"strength must be one finite number, or one a row; got {strength}.")
        if factor.ndim and self.rows not in (None, len(factor)):
            raise ShapeError(f"strength has {len(factor)} rows, the edit {self.rows}; give one number a row.")
        line = factor.unsqueeze(-1)
        return replace(self, gain=self.gain * line.unsqueeze(-1), offset=self.offset * line, radial=self.radial * line)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "LowRankEdit":
        """The same edit with its arrays elsewhere."""
        return replace(self, **{name: t.to(device=device, dtype=dtype) for name, t in self.tensors().items()})

    def take(self, index: Int[Tensor, " picked"]) -> "LowRankEdit":
        """The edit whose row i is row `index[i]` of this one; shared arrays stay shared.

        Raises:
            ParameterError: when the edit has no rows to take.
            ShapeError: when a row does not exist.
        """
        if self.rows is None:
            raise ParameterError("this edit is the same for every row; stack edits before taking rows.")
        if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < self.rows:
            raise ShapeError(f"row {int(index.max())} was asked for, but the edit has {self.rows} rows; "
                             "give one prompt a row.")
        return replace(self, **{name: t[index.to(t.device)] if t.ndim > CORE_DIMS[name] else t
                                for name, t in self.tensors().items()})

    @classmethod
    def identity(cls, d_model: int, rank: int = 1) -> "LowRankEdit":
        """The edit that changes nothing; the unsteered row of a stack."""
        flat, square = torch.zeros(rank), torch.zeros(rank, rank)
        return cls(torch.zeros(rank, d_model), torch.zeros(rank, d_model), square, flat, flat, flat)

    @classmethod
    def stack(cls, edits: Sequence["LowRankEdit"]) -> "LowRankEdit":
        """One edit whose row i is `edits[i]` (an edit that already has rows contributes all of them).

        Lower ranks are filled up with coordinates that read and write nothing. Arrays that are equal in all
        edits stay shared.

        Raises:
            ParameterError: when there is nothing to stack, or when norm or radius options differ.
            ShapeError: when the edits disagree on d_model.
        """
        if not edits:
            raise ParameterError("nothing to stack: expected at least one edit.")
        if len({(edit.norm, edit.radius) for edit in edits}) > 1:
            raise ParameterError("edits with different norm or radius options cannot share a stack.")
        if len({edit.d_model for edit in edits}) > 1:
            raise ShapeError(f"edits disagree on d_model: {sorted({edit.d_model for edit in edits})}.")
        rank = max(edit.rank for edit in edits)
        if any(edit.gate is not None for edit in edits):
            edits = [edit._with_gate() for edit in edits]
        filled = [padded(edit.tensors(), rank) for edit in edits]
        counts = [edit.rows or 1 for edit in edits]
        arrays = {name: stacked([arrays[name] for arrays in filled], counts, CORE_DIMS[name]) for name in filled[0]}
        return cls(**arrays, norm=edits[0].norm, radius=edits[0].radius).repeated(sum(counts))

    def _with_gate(self) -> "LowRankEdit":
        if self.gate is not None:
            return self
        return replace(self, gate=torch.zeros_like(self.gain), threshold=torch.zeros_like(self.offset))

    def repeated(self, rows: int) -> "LowRankEdit":
        """The same edit for each of so many rows, its arrays stored once; an edit with rows is left as it is."""
        return self if self.rows else replace(self, offset=self.offset.expand(rows, -1))


def apply_edit(edit: LowRankEdit, h: Float[Tensor, "*batch d_model"],
               admit: Callable[[Tensor], Tensor] | None = None) -> Float[Tensor, "*batch d_model"]:
    """Apply `edit` to activations.

    Coordinates are computed in float32 (float64 activations: in float64) whatever the dtype of `h`; the change is
    cast back, so the result has the shape, dtype and device of `h`. A closed gate leaves a token exactly as it was.

    Args:
        edit: Any low-rank edit; with rows, the first axis of `h` is the row.
        h: Activations, any number of leading axes.
        admit: What becomes of the update u [*batch, rank] before it is written.

    Raises:
        ShapeError: when d_model or the number of rows disagrees.
        ParameterError: when `admit` is given for an edit with a norm rule, which is about whole activations.
    """
    _check(edit, h)
    if admit is not None and edit.norm != "none":
        raise ParameterError(f"an update cannot be admitted in part under norm={edit.norm!r}; choose between h and "
                             "the edited activation.")
    dtype = torch.float64 if h.dtype == torch.float64 else torch.float32
    edit = edit if edit.read.dtype == dtype and edit.read.device == h.device else edit.to(h.device, dtype)
    if h.is_cuda and admit is None:
        from lenssteer.edits import fused

        if fused.is_worth_it(h):
            return fused.apply_fused(edit, h)
    flat = h.reshape(-1, h.shape[-1]) if edit.rows is None else h.reshape(len(h), -1, h.shape[-1])
    if admit is None:
        return edit.plan(flat).reshape(h.shape)
    u = admit(edit.plan.update(flat).reshape(*h.shape[:-1], edit.rank))
    return edit.plan.moved(flat, u.reshape(*flat.shape[:-1], edit.rank)).reshape(h.shape)


def coordinates(edit: LowRankEdit, h: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch rank"]:
    """What the edit reads: c = read h + bias, in the dtype of the edit's arrays."""
    return h @ edit.read.mT + spread(edit.bias, 1)


def _check(edit: LowRankEdit, h: Tensor) -> None:
    if h.shape[-1] != edit.d_model:
        raise ShapeError(f"the edit is for d_model {edit.d_model}, the activation has {h.shape[-1]}.")
    if edit.rows is not None and (h.ndim < 2 or h.shape[0] != edit.rows):
        raise ShapeError(f"the edit has {edit.rows} rows, the batch has {h.shape[0] if h.ndim > 1 else 0}; "
                         "use edit.take(...) to give every row of the batch its edit.")
