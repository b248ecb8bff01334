"""What every export asks of a steerer first."""

from collections.abc import Sequence

from lenssteer.edits import LowRankEdit
from lenssteer.errors import SteeringError
from lenssteer.site import Site
from lenssteer.steering import Steerer


def plain_edits(steerer: Steerer, target: str, wheres: Sequence[str] = ("all",)) -> dict[Site, LowRankEdit]:
    """The edits of a steerer that steers the chosen tokens of every text alike.

    Args:
        steerer: Any.
        target: Where it is to go, for messages.
        wheres: The rules for tokens that the target can carry.

    Raises:
        SteeringError: when it has a gate, a schedule, shared changes, another rule for tokens, edits of SAE latents,
            or edits that differ between rows.
    """
    allowed = " or ".join(f"where='{one}'" for one in wheres)
    reasons = {
        f"has where='{steerer.where}'; only {allowed} can be carried": str(steerer.where) not in wheres,
        f"has a gate ({steerer.gate})": steerer.gate is not None,
        f"has a schedule ({steerer.schedule})": steerer.schedule is not None and not steerer.schedule.is_plain,
        "gives the prompt the change of its last token": steerer.shared_from != "own",
    }
    reason = next((reason for reason, holds in reasons.items() if holds), "")
    if reason:
        raise SteeringError(f"{target} cannot carry this steerer, which {reason}.")
    found: dict[Site, LowRankEdit] = {}
    for site, edit in sorted(steerer.edits.items()):
        if not isinstance(edit, LowRankEdit) or edit.rows is not None:
            what = "encodes the latents of an SAE" if not isinstance(edit, LowRankEdit) else \
                f"steers {edit.rows} rows differently"
            raise SteeringError(f"{target} cannot carry the edit at {site}, which {what}.")
        found[site] = edit
    return found
