"""Where edits apply, how they are attached, and what they did."""

from lenssteer.steering.compose import Together, together
from lenssteer.steering.fitting import fit_condition
from lenssteer.steering.gates import Condition, Gate
from lenssteer.steering.hooks import hook_function
from lenssteer.steering.protocol import Edit
from lenssteer.steering.receipts import ConditionReceipt, Receipt, SiteReceipt
from lenssteer.steering.schedule import Schedule
from lenssteer.steering.steerer import Steerer
from lenssteer.steering.where import Where

__all__ = [
    "Condition", "ConditionReceipt", "Edit", "Gate", "Receipt", "Schedule", "SiteReceipt", "Steerer", "Together",
    "Where", "fit_condition", "hook_function", "together",
]
