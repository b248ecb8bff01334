"""The rotation papers' own procedure, as their code runs it: what the headline is compared with.

One prompt at a time through the model, the activations of all norm outputs kept; one angle after another, each with
dense d x d matrices at every steered output and full answers, one prompt at a time, by `generate` of transformers.
Nothing is slowed down: the cache is on, and matrices are made once an angle.

    h' = h - P h + V h        P = B B^T        V = B R(degrees) B^T

Source: Dang & Ngo 2026, arXiv:2601.19375, Eq. 6 to 10 and the code published with it. Departs from it: prompts are
tokenised as lenssteer does, with one BOS.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from lenssteer.errors import ModelError
from lenssteer.models import LensModel
from lenssteer.prompts import ContrastSet, Prompt

TINY = 1e-8
Scores = Callable[[Sequence[Prompt], Sequence[str]], Sequence[float | int | None]]


@dataclass(frozen=True, eq=False)
class Swept:
    """What the papers' procedure ends with.

    Args:
        means: Mean score by angle; the best is the steerer that is reported.
        basis: The plane it turned in; the sign of its second line is a convention of the library it came from.
    """

    means: dict[float, float]
    basis: Float[Tensor, "two d_model"]

    def seen_in(self, basis: Float[Tensor, "two d_model"]) -> dict[float, float]:
        """The means by the angle of the same rotation in a plane whose second line may point the other way."""
        if float(self.basis[1].double().cpu() @ basis[1].double().cpu()) >= 0:
            return self.means
        return {-degrees % 360: mean for degrees, mean in self.means.items()}


@dataclass(frozen=True, eq=False)
class Procedure:
    """What the papers' calibration gives.

    Args:
        basis: Orthonormal pair, one for all points, [2, d_model].
        steered: Norm modules that are steered.
    """

    basis: Float[Tensor, "two d_model"]
    steered: list[nn.Module]


def best_angle(model: LensModel, contrast: ContrastSet, asked: Sequence[Prompt], angles: Sequence[float],
               new_tokens: int, scores: Scores) -> Swept:
    """The whole procedure: calibration, then every angle on every prompt.

    Args:
        model: On backend hf.
        contrast: Positive and negative prompts of the calibration.
        asked: Prompts every angle answers.
        angles: In degrees.
        new_tokens: Longest answer.
        scores: Of answers; unscored ones count 0.

    Raises:
        ModelError: when the model has no norms of the names that the papers' code looks for.
    """
    found = calibrated(model, contrast)
    means: dict[float, float] = {}
    for degrees in angles:
        with steered(found, degrees):
            answers = [answer(model, prompt, new_tokens) for prompt in asked]
        means[degrees] = sum(score or 0.0 for score in scores(asked, answers)) / len(asked)
    return Swept(means, found.basis)


@torch.no_grad()
def calibrated(model: LensModel, contrast: ContrastSet) -> Procedure:
    """Directions, plane and points to steer, from one pass a prompt."""
    points = norms(model)
    positive, negative = (last_tokens(model, points, prompts) for prompts in (contrast.positive, contrast.negative))
    difference = positive.mean(1) - negative.mean(1)
    unit = difference / (difference.norm(dim=-1, keepdim=True) + TINY)
    alike = torch.cosine_similarity(unit[:, None], unit[None], dim=-1, eps=TINY)
    b1 = unit[alike.mean(1).argmax()]
    b2 = torch.from_numpy(_component(unit.float().cpu().numpy())).to(b1)
    b2 = b2 - (b2 @ b1) * b1
    basis = torch.stack([b1, b2 / (b2.norm() + TINY)])
    return Procedure(basis, [points[name] for name in _discriminative(list(points), positive, negative, b1)])


def norms(model: LensModel) -> dict[str, nn.Module]:
    """Norm modules by name, in the order of the model."""
    inner = model.backend.model  # type: ignore[attr-defined]  # the Hugging Face model itself
    found = {name: module for name, module in inner.named_modules() if "layernorm" in name or "rmsnorm" in name}
    if not found:
        raise ModelError(f"{model.card.name} has no module named layernorm or rmsnorm, which the papers' code looks "
                         "for.")
    return found


def last_tokens(model: LensModel, points: dict[str, nn.Module],
                prompts: Sequence[str]) -> Float[Tensor, "points prompts d_model"]:
    """The output of every norm at the last token of every prompt; batches of one."""
    kept: dict[str, list[Tensor]] = {name: [] for name in points}
    def keeper(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda _module, _args, out: kept[name].append(out[0, -1].clone())

    handles = [module.register_forward_hook(keeper(name)) for name, module in points.items()]
    try:
        for prompt in prompts:
            model.backend.model(_ids(model, prompt))  # type: ignore[attr-defined]
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack([torch.stack(values) for values in kept.values()])


def _ids(model: LensModel, prompt: Prompt) -> Tensor:
    return torch.tensor([model.encode([prompt])[0].ids], device=model.device)


def _component(unit: np.ndarray) -> Any:
    from sklearn.decomposition import PCA

    fitted: Any = PCA(n_components=1).fit(unit)
    return fitted.components_[0]


def _discriminative(names: Sequence[str], positive: Tensor, negative: Tensor, b1: Tensor) -> list[str]:
    """Points whose classes project with opposite signs, of blocks in which all points do."""
    plus, minus = ((x / (x.norm(dim=-1, keepdim=True) + TINY) @ b1).mean(1) for x in (positive, negative))
    opposite = dict(zip(names, (plus * minus < 0).tolist(), strict=True))
    block = {name: next((part for part in name.split(".") if part.isdecimal()), "") for name in names}
    whole = {number for number in block.values() if all(opposite[name] for name in names if block[name] == number)}
    return [name for name in names if block[name] in whole]


@contextmanager
def steered(found: Procedure, degrees: float) -> Iterator[None]:
    """Dense matrices at every steered point, for one angle."""
    angle = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64)).to(found.basis)
    turn = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
    inside, turned = found.basis.mT @ found.basis, found.basis.mT @ turn @ found.basis

    def hook(_module: nn.Module, _args: Any, h: Tensor) -> Tensor:
        return h - h @ inside.mT + h @ turned.mT

    handles = [module.register_forward_hook(hook) for module in found.steered]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def answer(model: LensModel, prompt: Prompt, new_tokens: int) -> str:
    """A greedy answer to one prompt."""
    ids = _ids(model, prompt)
    drawn = model.backend.model.generate(  # type: ignore[attr-defined]
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=new_tokens, do_sample=False,
        eos_token_id=sorted(model.stop_ids) or None, pad_token_id=model.pad_id)
    return model.tokenizer.decode(drawn[0, ids.shape[1] :], skip_special_tokens=True).strip()
