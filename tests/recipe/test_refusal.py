import json
import math

import numpy as np
import pytest
import torch

from lenssteer.errors import DirectionError, FileError, ParameterError, PromptError
from lenssteer.recipe.refusal import RefusalDirection, refusal_direction
from lenssteer.recipe.refusal_metric import refusal_log_odds
from lenssteer.recipe.refusal_scores import choose, divergence
from lenssteer.site import Site
from lenssteer.steering import Steerer

SOME = [Site(3, "resid_pre"), Site(4, "resid_pre")]
LOOSE = {"min_induce": -5.0}
"""The demo refuses with many first words, so no one addition makes it refuse; the other filters are the paper's."""


@pytest.fixture(scope="module")
def parts(demo_contrast):
    return demo_contrast.split({"train": 24, "validation": 8}, seed=1)


@pytest.fixture(scope="module")
def found(demo, parts):
    return refusal_direction(demo, parts["train"], parts["validation"], **LOOSE)


def line(bypass=0.0, induce=1.0, kl=0.01, layer=0):
    return {"site": f"resid_pre.{layer}", "layer": layer, "position": -1, "bypass": bypass, "induce": induce, "kl": kl}


def test_the_lowest_bypass_is_chosen():
    assert choose([line(1.0), line(-2.0), line(-1.0)], 10) == 1


@pytest.mark.parametrize(("worse", "paper", "arditi"), [
    ({"induce": 0.0}, 1, 0), ({"induce": -1e-9}, 1, 1), ({"kl": 0.1}, 1, 0), ({"kl": 0.1 + 1e-9}, 1, 1),
    ({"layer": 25}, 0, 1), ({"layer": 26}, 1, 1), ({"layer": 24}, 0, 0), ({"kl": math.nan}, 1, 1),
    ({"induce": math.nan}, 1, 1)])
def test_boundaries_of_the_paper_and_of_the_code(worse, paper, arditi):
    """At 32 layers the code stops at 24, the paper's rule allows 25."""
    scores = [line(-5.0, **worse), line(-1.0)]
    assert choose(scores, 32) == paper
    assert choose(scores, 32, "arditi") == arditi


@pytest.mark.parametrize(("layers", "paper", "arditi"), [(18, 14, 13), (28, 22, 21), (80, 63, 63), (10, 7, 7)])
def test_the_deepest_layer_by_depth(layers, paper, arditi):
    scores = [line(-float(layer), layer=layer) for layer in range(layers)]
    assert choose(scores, layers) == paper
    assert choose(scores, layers, "arditi") == arditi


def test_a_bypass_that_is_not_a_number_is_never_chosen():
    assert choose([line(math.nan), line(3.0)], 10) == 1


def test_when_none_passes_the_filters_are_counted():
    scores = [line(kl=0.5), line(-7.0, induce=-1.0, kl=0.2), line(layer=9), line(math.nan)]
    with pytest.raises(DirectionError, match=r"none of 4 .*1 had a score that is not a number; 1 had a layer at 0\.8 of "
                                             r"the depth or deeper; 2 had a kl not below 0\.1; 1 had an induce not "
                                             r"above 0\.0\. The lowest bypass is -7\.00"):
        choose(scores, 10)
    assert choose(scores, 10, max_kl=0.3, min_induce=-2.0) == 1


def test_divergence_equals_numpy():
    draw = np.random.default_rng(0)
    a, b = draw.normal(size=(4, 6)) * 3, draw.normal(size=(4, 6)) * 3
    p, q = (np.exp(x) / np.exp(x).sum(-1, keepdims=True) for x in (a, b))
    np.testing.assert_allclose(divergence(torch.tensor(a), torch.tensor(b)), (p * np.log(p / q)).sum(-1), atol=1e-12)
    theirs = (p * (np.log(p + 1e-6) - np.log(q + 1e-6))).sum(-1)
    np.testing.assert_allclose(divergence(torch.tensor(a), torch.tensor(b), compat="arditi"), theirs, atol=1e-12)
    far = torch.tensor([[0.0, -2000.0]])
    assert divergence(far, far).item() == 0.0


def test_stacked_scores_equal_one_run_a_candidate(demo, parts, found):
    """Every candidate alone: its own capture, its own hooks on the bare transformers model, NumPy metrics."""
    from lenssteer.capture.grid import capture_grid

    grid = capture_grid(demo, parts["train"], demo.sites("resid_pre"))
    validation, tokens = parts["validation"], list(found.tokens)
    chosen = [found.scores[i] for i in (0, 5, 11)]
    assert {entry["position"] for entry in chosen} == {-2, -1}
    for scored in chosen:
        direction = grid.candidate(Site.parse(scored["site"]), scored["position"])
        r = direction.vector.float()
        ablated = lambda h, r=r: h - (h @ r).unsqueeze(-1) * r  # noqa: E731
        bypass = np.mean([odds(p, tokens) for p in bare(demo, validation.positive, every=ablated)])
        pairs = zip(bare(demo, validation.negative), bare(demo, validation.negative, every=ablated), strict=True)
        kl = np.mean([(p * np.log(p / q)).sum() for p, q in pairs])
        added = lambda h, d=direction: h + d.raw.float()  # noqa: E731
        induce = np.mean([odds(p, tokens) for p in bare(demo, validation.negative, at=(direction.site.layer, added))])
        assert scored["bypass"] == pytest.approx(bypass, abs=1e-4)
        assert scored["induce"] == pytest.approx(induce, abs=1e-4)
        assert scored["kl"] == pytest.approx(kl, abs=1e-5)


def odds(p, tokens):
    return math.log(p[tokens].sum()) - math.log(1 - p[tokens].sum())


@torch.no_grad()
def bare(demo, prompts, every=None, at=None):
    """First-token distributions from transformers with plain torch hooks, one prompt at a time."""
    model, handles, found = demo.backend.model, [], []
    for layer, block in enumerate(model.model.layers):
        change = every or (at[1] if at and at[0] == layer else None)
        if change:
            handles.append(block.register_forward_pre_hook(lambda m, a, f=change: (f(a[0]), *a[1:])))
        if every:
            handles.append(block.self_attn.register_forward_hook(lambda m, a, o: (every(o[0]), *o[1:])))
            handles.append(block.mlp.register_forward_hook(lambda m, a, o: every(o)))
    try:
        for prompt in prompts:
            ids = demo.tokenizer.apply_chat_template([{"role": "user", "content": prompt}], return_dict=True,
                                                     add_generation_prompt=True, tokenize=True, return_tensors="pt")
            found.append(torch.softmax(model(ids["input_ids"]).logits[0, -1].double(), -1).numpy())
        return found
    finally:
        for handle in handles:
            handle.remove()


def test_the_direction_bypasses_refusal_on_prompts_it_never_saw(demo, found):
    from lenssteer.models import generate
    from lenssteer.models.demo.grade import grade
    from lenssteer.models.demo.world import requests

    test = requests("test", "harmful")[:24]
    refused = lambda: np.mean([grade(p, a).refusal for p, a in zip(test, generate(demo, [p.text for p in test]))])  # noqa: E731
    assert refused() > 0.9
    with found.steerer("ablation").on(demo):
        assert refused() < 0.1


def test_degenerate_candidates_are_skipped_and_the_chosen_one_is_marked(found):
    assert found.record["degenerate"] == 2, "two template tokens before the first block"
    assert all(line["layer"] > 0 for line in found.scores)
    assert len(found.scores) == 14
    assert [line["chosen"] for line in found.table()].count(True) == 1
    best = found.table()[0]
    assert (best["site"], best["position"]) == (str(found.direction.site), found.position)
    rest = [line["bypass"] for line in found.table()[1:]]
    assert rest == sorted(rest)


def test_the_steerers_are_the_papers_interventions(demo, found):
    h = torch.randn(2, 3, demo.card.d_model, dtype=torch.float64)
    r = found.direction.vector
    ablation = found.steerer()
    assert {str(site) for site in ablation.sites} == {f"{stream}.{layer}" for layer in range(8)
                                                      for stream in ("resid_pre", "attn_out", "mlp_out")}
    for edit in ablation.edits.values():
        torch.testing.assert_close(edit(h), h - (h @ r).unsqueeze(-1) * r)
    for name, sign in (("addition", 1.0), ("addition-reverse", -1.0)):
        steerer = found.steerer(name, coefficient=2)
        assert steerer.sites == (found.direction.site,)
        torch.testing.assert_close(steerer.edits[found.direction.site](h), h + sign * 2 * found.direction.raw)
    assert str(ablation.where) == "all"
    with pytest.raises(ParameterError, match="unknown intervention"):
        found.steerer("rotation")
    with pytest.raises(ParameterError, match="takes no coefficient"):
        found.steerer("ablation", coefficient=0.5)


def test_filtering_keeps_what_the_metric_classes_as_expected(demo, parts, found):
    validation = parts["validation"]
    plus = refusal_log_odds(demo, validation.positive, found.tokens)
    minus = refusal_log_odds(demo, validation.negative, found.tokens)
    middle = float(plus.sort().values[4])
    assert found.record["validation"]["kept"] == [int((plus > 0).sum()), int((minus < 0).sum())]
    assert middle > 0
    few = found.tokens[:1]
    with pytest.raises(DirectionError, match=r"filtering the train set .* left 0 of 24 harmful"):
        refusal_direction(demo, parts["train"], validation, tokens=few, **LOOSE)
    whole = refusal_direction(demo, parts["train"], validation, sites=SOME, tokens=few, filter=False, max_kl=99, min_induce=-99)
    assert whole.record["validation"]["kept"] == [8, 8]
    assert whole.tokens == few


def test_the_arditi_rule_is_recorded(demo, parts, found):
    theirs = refusal_direction(demo, parts["train"], parts["validation"], compat="arditi", sites=SOME, **LOOSE)
    assert (found.rule, theirs.rule) == ("paper", "arditi")
    assert len(theirs.scores) == 4
    mine = {(entry["site"], entry["position"]): entry for entry in found.scores}
    for entry in theirs.scores:
        same = mine[entry["site"], entry["position"]]
        assert entry["bypass"] == pytest.approx(same["bypass"], abs=1e-4)
        assert entry["kl"] == pytest.approx(same["kl"], abs=1e-3)


def test_a_saved_direction_is_the_same_and_its_steerer_runs(demo, found, tmp_path):
    again = RefusalDirection.load(found.save(tmp_path / "r"))
    assert torch.equal(again.direction.vector, found.direction.vector)
    assert (again.direction.raw - found.direction.raw).abs().max() == 0
    assert again.table() == found.table()
    assert (again.tokens, again.position, again.rule, again.card) == (found.tokens, found.position, found.rule, found.card)
    assert again.record == json.loads(json.dumps(dict(found.record)))
    steerer = Steerer.load(again.steerer("addition-reverse").save(tmp_path / "s"))
    with steerer.on(demo) as receipt:
        refusal_log_odds(demo, ["kite"], found.tokens)
    assert receipt.edited > 0
    assert steerer.provenance["calibration"]["sha256"] == found.record["sha256"]
    (tmp_path / "r" / "refusal.json").write_text('{"kind": "refusal", "format": 1}')
    with pytest.raises(FileError, match="damaged"):
        RefusalDirection.load(tmp_path / "r")


def test_validation_prompts_may_not_be_trained_on(demo, parts):
    with pytest.raises(PromptError, match="were used to fit or choose the candidates"):
        refusal_direction(demo, parts["train"], parts["train"])
    with pytest.raises(ParameterError, match="unknown compat"):
        refusal_direction(demo, parts["train"], parts["validation"], compat="x")


def test_sites_without_any_difference_are_refused(demo, parts):
    with pytest.raises(DirectionError, match="same mean at every site and position"):
        refusal_direction(demo, parts["train"], parts["validation"], sites=[Site(0, "resid_pre")])


def test_prompts_are_hashed(found, parts):
    assert found.record["sha256"] == parts["train"].sha256
    assert found.record["validation_sha256"] == parts["validation"].sha256
    assert len(found.record["seen"]) == 2 * (24 + 8)
