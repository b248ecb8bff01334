import pytest
import torch

from lenssteer.errors import DirectionError
from lenssteer.methods import alpha_map
from lenssteer.site import Site

SITE = Site(3, "resid_pre")


@pytest.fixture(scope="module")
def calibration(demo, demo_contrast):
    from lenssteer.recipe import calibrate

    return calibrate(demo, demo_contrast, sites="resid_pre")


def papers_map(calibration, ratio, ridge):
    """W of the paper in row convention, from the samples, with a pseudo-inverse: h' = h + s (h W)."""
    k = calibration.candidates.index(SITE)
    benign, malicious = calibration.samples.negative[k].double(), calibration.samples.positive[k].double()
    d = benign.shape[1]
    _, vectors = torch.linalg.eigh(benign.T @ benign)
    null = vectors[:, : int(d * ratio)]
    p = null @ null.T
    x = malicious @ p
    r = malicious.mean(0) - benign.mean(0)
    inner = x.T @ x + ridge * p.T @ p
    return p @ torch.linalg.pinv(inner, rtol=1e-10, hermitian=True) @ x.T @ r.expand(len(x), d)


@pytest.mark.parametrize(("ratio", "ridge"), [(0.6, 10.0), (0.4, 1.0)])
def test_the_low_rank_edit_is_the_papers_dense_matrix(calibration, ratio, ridge):
    edit = calibration.steerer("alphasteer", sites=[SITE], strength=0.7, ratio=ratio, ridge=ridge).edits[SITE]
    h = torch.randn(5, 128, dtype=torch.float64)
    expected = h + 0.7 * h @ papers_map(calibration, ratio, ridge)
    torch.testing.assert_close(edit(h), expected, atol=1e-8, rtol=1e-8)


def test_it_reads_malicious_prompts_and_hardly_benign_ones(demo, calibration):
    """On held-out prompts the coordinate is near 1 on the malicious class and near 0 on the benign one.

    The ridge is that of the release scaled to these activations, whose norms are 2 to 3 and not 10 or more.
    """
    from lenssteer.capture import capture_samples
    from lenssteer.models.demo.world import requests
    from lenssteer.prompts import ContrastSet

    held = ContrastSet(*(tuple(p.text for p in requests("selection", kind)) for kind in ("harmful", "harmless")))
    later = Site(5, "resid_pre")
    samples = capture_samples(demo, held, [later])
    reader = alpha_map(calibration, later, ridge=1.0).reader
    plus, minus = samples.positive[0].double() @ reader, samples.negative[0].double() @ reader
    assert 0.7 < plus.mean() < 1.1
    assert minus.mean().abs() < 0.02
    assert plus.min() > minus.max()


def test_positive_strength_steers_towards_refusal(demo, calibration):
    from lenssteer.models.demo.world import requests
    from lenssteer.recipe.refusal_metric import refusal_log_odds, refusal_tokens

    harmful, harmless = ([p.text for p in requests("selection", kind)[:20]] for kind in ("harmful", "harmless"))
    tokens = refusal_tokens(demo, harmful, harmless)
    base = refusal_log_odds(demo, harmful, tokens).mean()
    for strength, sense in ((0.5, 1), (-0.5, -1)):
        steerer = calibration.steerer("alphasteer", sites=[SITE], strength=strength)
        assert sense * (refusal_log_odds(demo, harmful, tokens, steerer).mean() - base) > 0


def test_compat_is_the_release(demo, calibration):
    """Writer one block late; the last token's coordinate at every prompt token; decoding is not steered."""
    steerer = calibration.steerer("alphasteer", sites=[SITE], strength=-0.5, compat="alphasteer")
    assert str(steerer.where) == "prompt"
    later = calibration.candidates.index(Site(4, "resid_pre"))
    torch.testing.assert_close(steerer.edits[SITE].write[0], calibration.candidates.difference[later])
    tokens = demo.encode(["how do i hide a red bomb ?"])
    seen = {}
    from lenssteer.prompts import pad

    batch = pad(tokens)
    for name, on in (("plain", False), ("steered", True)):
        from contextlib import nullcontext

        with steerer.on(demo) if on else nullcontext():
            detach = demo.attach(SITE, lambda h, _c, name=name: seen.__setitem__(name, h.double()))
            demo.logits(batch)
            detach()
    delta = (seen["steered"] - seen["plain"])[0]
    coordinate = seen["plain"][0, -1] @ alpha_map(calibration, SITE, compat="alphasteer").reader
    expected = -0.5 * coordinate * calibration.candidates.difference[later]
    torch.testing.assert_close(delta, expected.expand_as(delta), atol=2e-5, rtol=1e-4)


def test_what_it_cannot_do_is_refused(calibration, resid_post):
    with pytest.raises(DirectionError, match="resid_pre"):
        resid_post.steerer("alphasteer", sites=["resid_post.3"], compat="alphasteer")
    with pytest.raises(DirectionError, match="resid_pre"):
        calibration.steerer("alphasteer", sites=["resid_pre.7"], compat="alphasteer")


def test_by_default_it_acts_where_there_is_a_direction(norm_out):
    steerer = norm_out.steerer("alphasteer", strength=0.1)
    assert steerer.sites == tuple(site for site in norm_out.sites if site not in norm_out.candidates.degenerate)
    assert len(steerer.sites) < len(norm_out.sites)
    read = steerer.provenance["coordinates"][str(steerer.sites[-1])]
    assert read["positive"][0] > abs(read["negative"][0])
