"""Where an autoencoder reads: TransformerLens' hook names as sites."""

import re

from lenssteer.errors import SiteError
from lenssteer.site import Site, Stream

HOOKS: dict[str, Stream] = {
    "hook_resid_pre": "resid_pre",
    "hook_attn_out": "attn_out",
    "hook_resid_mid": "resid_mid",
    "hook_mlp_out": "mlp_out",
    "hook_resid_post": "resid_post",
}
"""The hooks whose activation is one of lenssteer's streams. `ln1.hook_normalized` is not: it comes before the gain."""


def site_of_hook(name: str) -> Site:
    """The site a hook reads.

    >>> str(site_of_hook("blocks.4.hook_resid_post"))
    'resid_post.4'

    Raises:
        SiteError: when no site has that activation; the hooks that have one are listed.
    """
    found = re.fullmatch(r"blocks\.(\d+)\.(\w+)", name)
    if found is None or found[2] not in HOOKS:
        raise SiteError(f"no site for the hook {name!r}; expected blocks.<layer>.<hook> with one of {', '.join(HOOKS)}."
                        " If the activation is one of those, pass site= to load_sae.")
    return Site(int(found[1]), HOOKS[found[2]])
