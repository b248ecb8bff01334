import pytest

from lenssteer.errors import SiteError
from lenssteer.site import STREAMS, Site, sites_of


def test_sites_are_written_and_read():
    for stream in STREAMS:
        assert Site.parse(str(Site(3, stream))) == Site(3, stream)


def test_sites_sort_in_the_order_a_token_passes_them():
    names = ["resid_post.0", "resid_pre.1", "ln1_out.1", "attn_out.1", "resid_mid.1", "ln2_out.1", "mlp_out.1"]
    assert [str(site) for site in sorted(Site.parse(name) for name in reversed(names))] == names


@pytest.mark.parametrize("text", ["resid_post", "resid_post.x", "resid_post.-1", "14", ""])
def test_misspelt_sites_are_refused(text):
    with pytest.raises(SiteError):
        Site.parse(text)


def test_the_nearest_stream_or_set_is_suggested():
    with pytest.raises(SiteError, match="Did you mean 'resid_post'"):
        Site.parse("resid_pots.3")
    with pytest.raises(SiteError, match="Did you mean 'norm_out'"):
        sites_of("norm_outs", 2)
    with pytest.raises(SiteError, match="negative"):
        Site(-1, "resid_post")
