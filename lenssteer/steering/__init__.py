"""Where edits apply, how they are attached, and what they did."""

from lenssteer.steering.hooks import hook_function
from lenssteer.steering.receipts import Receipt, SiteReceipt
from lenssteer.steering.steerer import Steerer
from lenssteer.steering.where import Where

__all__ = ["Receipt", "SiteReceipt", "Steerer", "Where", "hook_function"]
