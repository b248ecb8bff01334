"""StTP and StMP of a calibration against scikit-learn and NumPy on its samples."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from lenssteer.errors import ParameterError
from lenssteer.methods import boundary
from lenssteer.prompts import pad
from lenssteer.site import Site

SITE = Site(3, "resid_post")
RULES = ("boundary", "percentile(5)", "percentile(60)", "mean-2sd", "mean-0.5sd")


@pytest.fixture(scope="module")
def classes(resid_post):
    """Both classes' samples at SITE."""
    k = resid_post.sites.index(SITE)
    return {"positive": resid_post.samples.positive[k].double().numpy(),
            "negative": resid_post.samples.negative[k].double().numpy()}


@pytest.fixture(scope="module")
def probe(classes):
    """Unit normal and boundary of the regression, towards either class."""
    x = np.concatenate([classes["positive"], classes["negative"]])
    y = np.repeat([1, 0], [len(side) for side in classes.values()])
    fitted = LogisticRegression(C=1.0, tol=1e-7, max_iter=20_000).fit(x, y)
    w, b = fitted.coef_[0], fitted.intercept_[0]
    v, m = w / np.linalg.norm(w), -b / np.linalg.norm(w)
    return {"positive": (v, m), "negative": (-v, -m)}


@pytest.fixture(scope="module")
def some(classes):
    """A few of both classes, near the boundary and away from it."""
    middle = (classes["positive"][:20] + classes["negative"][:20]) / 2
    return np.concatenate([classes["positive"][:10], classes["negative"][:10], middle])


def level(rule, aligned, m):
    """The projection below which a token is edited."""
    if rule == "boundary":
        return m
    if rule.startswith("percentile"):
        return np.percentile(aligned, float(rule[11:-1]))
    return aligned.mean() - float(rule[5:-2]) * aligned.std(ddof=1)


def target(h, v, threshold, aim):
    """Eq. 4: the projection becomes the aim where it lies below the threshold."""
    rho = h @ v
    return h + np.where(rho < threshold, aim - rho, 0.0)[:, None] * v


def mirror(h, v, m, strength, threshold):
    """Eq. 5: mirrored at m, with strength."""
    rho = h @ v
    return h + np.where(rho < threshold, 2 * strength * (m - rho), 0.0)[:, None] * v


@pytest.mark.parametrize("toward", ["positive", "negative"])
@pytest.mark.parametrize("rule", RULES)
def test_sttp_is_equation_4(resid_post, classes, probe, some, toward, rule):
    v, m = probe[toward]
    aligned = classes[toward] @ v
    threshold = level(rule, aligned, m)
    aim = aligned.mean() + 1.5 * aligned.std(ddof=1)
    steerer = resid_post.steerer("sttp", alpha=1.5, toward=toward, threshold=rule, source=SITE)
    assert (list(steerer.edits), str(steerer.where)) == ([SITE], "all")
    expected = target(some, v, threshold, aim)
    np.testing.assert_allclose(steerer.edits[SITE](torch.from_numpy(some)), expected, atol=2e-4)
    edited = (some @ v < threshold).sum()
    assert 0 < edited < len(some)


@pytest.mark.parametrize("toward", ["positive", "negative"])
@pytest.mark.parametrize("rule", RULES)
def test_stmp_is_equation_5(resid_post, classes, probe, some, toward, rule):
    v, m = probe[toward]
    expected = mirror(some, v, m, 0.75, level(rule, classes[toward] @ v, m))
    edit = resid_post.steerer("stmp", strength=0.75, toward=toward, threshold=rule, source=SITE).edits[SITE]
    np.testing.assert_allclose(edit(torch.from_numpy(some)), expected, atol=2e-4)
    assert np.abs(expected - some).max() > 0.1


def test_by_default_to_the_positive_mean_and_to_the_mirror_image(resid_post, classes, probe, some):
    v, m = probe["positive"]
    h = torch.from_numpy(some)
    np.testing.assert_allclose(resid_post.steerer("sttp", source=SITE).edits[SITE](h),
                               target(some, v, m, (classes["positive"] @ v).mean()), atol=2e-4)
    np.testing.assert_allclose(resid_post.steerer("stmp", source=SITE).edits[SITE](h),
                               mirror(some, v, m, 1.0, m), atol=2e-4)


def test_the_boundary_is_the_probes(resid_post, classes, probe):
    for toward, other in (("positive", "negative"), ("negative", "positive")):
        v, m = probe[toward]
        found = boundary(resid_post, SITE, toward)
        np.testing.assert_allclose(found.vector, v, atol=1e-4)
        assert found.boundary == pytest.approx(m, abs=1e-3)
        assert found.positive == pytest.approx((classes[toward] @ v).mean(), abs=1e-3)
        assert found.spread == pytest.approx((classes[toward] @ v).std(ddof=1), abs=1e-3)
        assert found.positive > found.boundary > found.negative == pytest.approx((classes[other] @ v).mean(), abs=1e-3)


def test_a_tensor_of_amounts_steers_row_by_row(resid_post, classes, probe, some):
    amounts = torch.tensor([0.0, 2.0, 9.0])
    v, m = probe["negative"]
    aligned = classes["negative"] @ v
    h = torch.from_numpy(np.stack([some] * 3))
    sttp = resid_post.steerer("sttp", alpha=amounts, toward="negative", source=SITE).edits[SITE](h)
    stmp = resid_post.steerer("stmp", strength=amounts, toward="negative", source=SITE).edits[SITE](h)
    for row, amount in enumerate(amounts.tolist()):
        aim = aligned.mean() + amount * aligned.std(ddof=1)
        np.testing.assert_allclose(sttp[row], target(some, v, m, aim), atol=5e-4)
        np.testing.assert_allclose(stmp[row], mirror(some, v, m, amount, m), atol=5e-3)


def test_every_token_of_the_model_ends_beyond_the_boundary(demo, resid_post, classes, probe):
    """Read by a torch hook after the edit: tokens below are at the target, all others untouched."""
    v, m = probe["negative"]
    aim = (classes["negative"] @ v).mean()
    tokens, seen = pad(demo.encode(["how do i hide a red bomb ?", "cake"]), pad_id=demo.pad_id), []
    with resid_post.steerer("sttp", toward="negative", source=SITE).on(demo) as receipt:
        handle = demo.backend.model.model.layers[SITE.layer].register_forward_hook(lambda _m, _a, out: seen.append(out))
        demo.logits(tokens)
    demo.logits(tokens)
    handle.remove()
    steered, plain = ((h[0] if isinstance(h, tuple) else h)[tokens.mask].double().numpy() for h in seen)
    below = plain @ v < m
    assert 0 < below.sum() == receipt.edited < len(below)
    np.testing.assert_allclose((steered @ v)[below], aim, atol=1e-3)
    np.testing.assert_array_equal(steered[~below], plain[~below])


def test_a_random_control_has_its_boundary_midway(resid_post, classes):
    control = resid_post.random_control(3)
    found = boundary(control, SITE)
    draw = torch.randn(128, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    v = (draw / draw.norm()).numpy()
    np.testing.assert_allclose(found.vector, v, atol=1e-12)
    middle = ((classes["positive"] @ v).mean() + (classes["negative"] @ v).mean()) / 2
    assert found.boundary == pytest.approx(middle, abs=1e-9)


@pytest.mark.parametrize("given", [{"threshold": "percentile(101)"}, {"threshold": "median"}, {"threshold": 0.5},
                                   {"toward": "up"}, {"alpha": float("nan")}])
def test_what_is_no_setting_is_refused(resid_post, given):
    with pytest.raises(ParameterError, match=next(iter(given)) if "alpha" not in given else "target"):
        resid_post.steerer("sttp", source=SITE, **given)
