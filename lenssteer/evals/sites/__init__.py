"""Choosing a site: criteria side by side in one table, and the record of the choice."""

from lenssteer.evals.sites.criteria import CRITERIA, Criterion
from lenssteer.evals.sites.table import SiteTable, site_scores

__all__ = ["CRITERIA", "Criterion", "SiteTable", "site_scores"]
