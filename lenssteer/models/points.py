"""Hook points of TransformerLens, held by object: names differ between its two model classes, and may be aliases."""

from typing import Any

from lenssteer.models.protocol import Detach, Edit


def attach_to_point(point: Any, edit: Edit) -> Detach:
    """Add a hook to a hook point, and take away exactly that one afterwards.

    It is a permanent one, since `reset_hooks()` of a user would take any other away in the middle of a run.
    """
    before = list(point.fwd_hooks)
    point.add_hook(lambda tensor, hook: edit(tensor), is_permanent=True)
    added = next(handle for handle in point.fwd_hooks if all(handle is not old for old in before))

    def detach() -> None:
        added.hook.remove()
        point.fwd_hooks[:] = [handle for handle in point.fwd_hooks if handle is not added]

    return detach
