"""Sparse autoencoders as plain tensors: read, encode, decode."""

from lenssteer.saes.files import SaeWarning, load_sae
from lenssteer.saes.hooks import HOOKS, site_of_hook
from lenssteer.saes.sae import KINDS, NORMALISATIONS, Sae

__all__ = ["HOOKS", "KINDS", "NORMALISATIONS", "Sae", "SaeWarning", "load_sae", "site_of_hook"]
