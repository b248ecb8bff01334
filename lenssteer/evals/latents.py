"""What latents of a sparse autoencoder write: the tokens they favour, and whether the model then says them."""

from collections.abc import Callable, Sequence
from typing import Any

from jaxtyping import Float, Float64
from torch import Tensor

from lenssteer.errors import ParameterError, PromptError, ShapeError
from lenssteer.models import LensModel
from lenssteer.prompts import Columns, Encoded, Prompt, pad
from lenssteer.saes import Sae
from lenssteer.site import Site

NEUTRAL = "From my experience,"
ROWS = 64
"""Latents in one batch."""


def logit_lens(model: LensModel, sae: Sae, latents: int | Sequence[int], top: int = 20) -> list[dict[str, Any]]:
    """The tokens a latent writes towards: its decoder row through the final norm and the unembedding.

        p = softmax(unembed(norm(W_dec_i)))

    The row takes the place of the stream after the last block, so that this is one code for every backend.

    Args:
        model: The model the autoencoder was trained on, unsteered.
        sae: Autoencoder of one of its sites.
        latents: One or several.
        top: How many tokens.

    Returns:
        A dict a latent: latent, ids, tokens and probabilities, likeliest first.

    Raises:
        ParameterError: when a latent does not exist, or `top` is not from 1 to the size of the vocabulary.
        ShapeError: when the autoencoder is of another width.

    Source: nostalgebraist 2020, "interpreting GPT: the logit lens"; Arad et al. 2025, arXiv:2505.20063, section 3.
    Departs from the authors' code: a soft cap of the logits is applied, which leaves their order as it is.
    """
    found = []
    for group in _groups(model, sae, latents):
        logits = _unembedded(model, sae.W_dec[group])
        if not 1 <= top <= logits.shape[-1]:
            raise ParameterError(f"top is {top}; the vocabulary has {logits.shape[-1]} tokens.")
        likely = logits.softmax(-1).topk(top, dim=-1)
        for latent, ids, p in zip(group, likely.indices.tolist(), likely.values.tolist(), strict=True):
            tokens = [model.tokenizer.decode([token]) for token in ids]
            found.append({"latent": latent, "ids": ids, "tokens": tokens, "probabilities": p})
    return found


def output_score(
    model: LensModel,
    sae: Sae,
    latents: int | Sequence[int],
    prompt: Prompt = NEUTRAL,
    *,
    template: str = "none",
    top: int = 20,
    amplification: float | int = 10.0,
) -> list[dict[str, Any]]:
    """How far amplifying a latent makes the model say the tokens of its logit lens, from 0 to 1.

        f_i' = f_i + amplification max_j f_j        at the last token of the prompt; the error of the autoencoder stays
        S_i  = (1 - min_{t in T} rank(t) / vocab) max_{t in T} p(t)

    T are the `top` tokens of the logit lens, p the probabilities of the next token, and rank(t) counts the tokens that
    are more probable than t. A latent that detects a concept need not write it: low scores seldom steer. There is no
    baseline, so what the prompt makes likely anyway counts too; compare latents, under one prompt.

    Args:
        model: The model the autoencoder was trained on, unsteered.
        sae: Autoencoder of one of its sites.
        latents: One or several; they share batches.
        prompt: Neutral, in words the model knows.
        template: Prompt format; "none" is the text as it is.
        top: Size of T.
        amplification: In multiples of the strongest latent at the last token, whichever that is.

    Returns:
        A dict a latent: latent, output_score, min_rank, probability and token (both of the likeliest of T).

    Raises:
        ParameterError: when a latent does not exist, none is active at the last token, or `top` or `amplification` is
            out of range.
        PromptError: when the prompt has words the model does not know, or is too long.
        ShapeError: when the autoencoder is of another width.
        SiteError: when the model lacks the autoencoder's site.

    Source: Arad et al. 2025, arXiv:2505.20063, and src/output_score.py of the authors' code.
    Departs from the code: many latents a pass; a BOS wherever the tokenizer has one; equal probabilities share a rank.
    """
    if not 0 < amplification < float("inf"):
        raise ParameterError(f"amplification is {amplification}; it must be positive and finite.")
    encoded = _neutral(model, prompt, template)
    found = []
    for group in _groups(model, sae, latents):
        p = _amplified(model, sae, group, encoded, float(amplification)).softmax(-1)
        found += [_scored(row, entry) for row, entry in zip(p, logit_lens(model, sae, group, top), strict=True)]
    return found


def _groups(model: LensModel, sae: Sae, latents: int | Sequence[int]) -> list[list[int]]:
    """The latents asked for, in batches."""
    chosen = [latents] if isinstance(latents, int) else list(latents)
    if not chosen or not all(0 <= latent < sae.d_sae for latent in chosen):
        raise ParameterError(f"expected latents from 0 to {sae.d_sae - 1}, at least one; got {chosen[:5]}.")
    if sae.d_model != model.card.d_model:
        raise ShapeError(f"the autoencoder is for d_model {sae.d_model}, {model.card.name} has {model.card.d_model}; "
                         "load the model it was trained on.")
    return [chosen[start : start + ROWS] for start in range(0, len(chosen), ROWS)]


def _neutral(model: LensModel, prompt: Prompt, template: str) -> Encoded:
    encoded = model.encode([prompt], template=template)[0]
    unknown = getattr(model.tokenizer, "unk_token_id", None)
    if unknown is not None and unknown in encoded.ids:
        raise PromptError(f"the model does not know some words of {prompt!r}; give a neutral prompt of words it knows.")
    return encoded


def _unembedded(model: LensModel, rows: Float[Tensor, "n d_model"]) -> Float64[Tensor, "n vocab"]:
    """Logits of vectors in place of the stream after the last block, whatever the text is."""
    last = Site(model.card.n_layers - 1, "resid_post")
    anything = Encoded((model.pad_id,), (0, 1), 1)
    return _logits(model, [anything] * len(rows), last, lambda h: rows.to(h).unsqueeze(1))


def _amplified(model: LensModel, sae: Sae, latents: list[int], prompt: Encoded,
               amplification: float) -> Float64[Tensor, "n vocab"]:
    """Logits after a prompt, with another latent amplified at its last token in every row."""
    local = sae.to(model.device)

    def change(h: Tensor) -> Tensor:
        last = h[:, -1].to(local.dtype)
        strongest = local.encode(last).amax(-1, keepdim=True)
        if not bool((strongest > 0).all()):
            raise ParameterError("no latent is active at the last token of the prompt, and amplification is in "
                                 "multiples of the strongest; give another prompt.")
        written = local.rows[latents] * local.normalised(last)[1]
        new = h.clone()
        new[:, -1] = (last + amplification * strongest * written).to(h.dtype)
        return new

    return _logits(model, [prompt] * len(latents), sae.site, change)


def _logits(model: LensModel, encoded: Sequence[Encoded], site: Site,
            change: Callable[[Tensor], Tensor]) -> Float64[Tensor, "n vocab"]:
    """Logits after the last token, with `change` at a site."""
    tokens = pad(encoded, pad_id=model.pad_id)
    detach = model.attach(site, lambda h, _columns: change(h))
    try:
        return model.run(tokens.ids, Columns(0, tokens.mask, tokens))[:, -1].double().cpu()
    finally:
        detach()


def _scored(p: Float64[Tensor, " vocab"], lens: dict[str, Any]) -> dict[str, Any]:
    best = int(p[lens["ids"]].argmax())
    probability = p[lens["ids"][best]].item()
    rank = int((p > probability).sum())
    return {"latent": lens["latent"], "output_score": (1 - rank / len(p)) * probability, "min_rank": rank,
            "probability": probability, "token": lens["tokens"][best]}
