"""Methods: what each is called, what it takes, where it comes from, and how it becomes an edit."""

from lenssteer.methods.alphasteer import alpha_map
from lenssteer.methods.catalogue import CATALOGUE, describe, find_method
from lenssteer.methods.method import Amount, Fitted, Method, Parameter, at_site, refuse_idle_amounts
from lenssteer.methods.projection import boundary

__all__ = ["Amount", "CATALOGUE", "Fitted", "Method", "Parameter", "alpha_map", "at_site", "boundary", "describe",
           "find_method", "refuse_idle_amounts"]
