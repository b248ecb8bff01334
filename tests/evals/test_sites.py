"""Site criteria against independent computations, and the record of a choice."""

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score

from lenssteer.errors import DirectionError, ParameterError, PromptError
from lenssteer.evals.sites import CRITERIA, site_scores
from lenssteer.models.demo.world import requests
from lenssteer.prompts import ContrastSet, refuse_seen
from lenssteer.site import Site

SITE = Site(4, "resid_post")


@pytest.fixture(scope="module")
def held_out():
    return ContrastSet(*(tuple(p.text for p in requests("selection", kind)[:24]) for kind in ("harmful", "harmless")))


@pytest.fixture(scope="module")
def table(demo, resid_post, held_out):
    return site_scores(demo, resid_post, held_out)


@pytest.fixture(scope="module")
def hidden(demo, held_out):
    """Held-out activations at SITE and first-token logits, one prompt at a time, by transformers alone."""
    found = {}
    for name, prompts in (("positive", held_out.positive), ("negative", held_out.negative)):
        with torch.no_grad():
            runs = [demo.backend.model(torch.tensor([e.ids]), output_hidden_states=True) for e in demo.encode(prompts)]
        found[name] = (np.stack([r.hidden_states[SITE.layer + 1][0, -1].double().numpy() for r in runs]),
                       torch.stack([r.logits[0, -1].double() for r in runs]))
    return found


def test_every_site_has_a_line_and_every_criterion_a_column(table, resid_post):
    assert [row["site"] for row in table.rows()] == list(map(str, resid_post.sites))
    assert set(table.rows()[0]) == {"site", *CRITERIA}


def test_probe_accuracy_is_sklearns(table, resid_post, hidden):
    v, direction = resid_post.candidates.unit[4].numpy(), resid_post.candidates.direction(SITE)
    middle = (direction.positive + direction.negative) / 2
    projected = np.concatenate([hidden["positive"][0] @ v, hidden["negative"][0] @ v])
    labels = np.repeat([1, 0], 24)
    assert table.scores["probe_accuracy"][SITE] == pytest.approx(balanced_accuracy_score(labels, projected > middle))


def test_effect_size_is_cohens_d_of_held_out_prompts(table, resid_post, hidden):
    v = resid_post.candidates.unit[4].numpy()
    a, b = hidden["positive"][0] @ v, hidden["negative"][0] @ v
    expected = (a.mean() - b.mean()) / np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
    assert table.scores["effect_size"][SITE] == pytest.approx(expected, rel=1e-4)


def test_scans_steer_one_site_and_nothing_else(demo, table, resid_post, held_out, hidden):
    """Delta logits and the steering score from a plain torch hook on the same block."""
    from lenssteer.evals import refusal_tokens

    difference = resid_post.candidates.difference[4].float()
    tokens = refusal_tokens(demo, held_out.positive, held_out.negative)
    block = demo.backend.blocks[4]
    hook = block.register_forward_hook(lambda _m, _a, out: out - difference if torch.is_tensor(out)
                                       else (out[0] - difference, *out[1:]))
    with torch.no_grad():
        steered = torch.stack([demo.backend.model(torch.tensor([e.ids])).logits[0, -1].double()
                               for e in demo.encode(held_out.positive)])
    hook.remove()
    base = hidden["positive"][1]
    assert table.scores["delta_logits"][SITE] == pytest.approx((steered - base).norm(dim=-1).mean().item(), rel=1e-3)

    def odds(logits):
        p = torch.softmax(logits, -1)[:, list(tokens)].sum(-1)
        return (p.log() - torch.log1p(-p)).mean().item()

    assert table.scores["steering_score"][SITE] == pytest.approx(odds(base) - odds(steered), rel=1e-2, abs=1e-2)


def test_arditi_rules_out_by_depth_induce_and_kl(demo, resid_post, held_out, table, monkeypatch):
    """The demo model passes none of the published bounds; with a wide KL bound layer 6 of 8 passes and layer 7 is late."""
    assert set(table.scores["arditi"].values()) == {None}
    from lenssteer.evals.sites import criteria

    monkeypatch.setattr(criteria, "MAX_KL", 10.0)
    wide = site_scores(demo, resid_post, held_out, criteria=["arditi"]).scores["arditi"]
    assert wide[Site(6, "resid_post")] is not None
    assert wide[Site(7, "resid_post")] is None, "deeper than .8 of the layers"
    assert wide[Site(1, "resid_post")] is None, "does not induce"
    monkeypatch.setattr(criteria, "too_deep", lambda layer, n_layers: False)
    assert site_scores(demo, resid_post, held_out, criteria=["arditi"]).scores["arditi"][Site(7, "resid_post")] is not None


def test_the_choice_and_its_prompts_are_recorded(table, held_out, demo_contrast):
    chosen = table.choose("effect_size")
    best = max((s for s in table.scores["effect_size"]), key=lambda s: table.scores["effect_size"][s])
    assert chosen.direction.site == best
    assert chosen.record["chosen_by"] == "effect_size"
    assert chosen.record["chosen_on"] == held_out.sha256
    steerer = chosen.steerer("ablation")
    for prompt in (held_out.positive[0], demo_contrast.negative[0]):
        with pytest.raises(PromptError, match="used to fit or choose"):
            refuse_seen(steerer.provenance["calibration"]["seen"], [prompt])
    refuse_seen(steerer.provenance["calibration"]["seen"], [p.text for p in requests("test", "harmful")])


def test_what_cannot_be_chosen_is_refused(demo, resid_post, held_out, demo_contrast, table):
    with pytest.raises(PromptError, match="used to fit"):
        site_scores(demo, resid_post, demo_contrast)
    with pytest.raises(ParameterError, match="Did you mean 'effect_size'"):
        site_scores(demo, resid_post, held_out, criteria=["effect_sice"])
    with pytest.raises(ParameterError, match="was not computed"):
        table.best("nonsense")
    quiet = type(table)(table.calibration, table.held_out, {"arditi": dict.fromkeys(table.scores["arditi"])})
    with pytest.raises(DirectionError, match="rules out every site"):
        quiet.best("arditi")
