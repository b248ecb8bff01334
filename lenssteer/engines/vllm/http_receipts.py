"""Receipts of a request, fetched from vLLM's workers."""

from typing import Any

CALL = "lenssteer_receipts"


async def take_receipts(engine: Any, ticket: str) -> list[dict[str, Any]]:
    """What the workers kept under a ticket, one of each answer or prompt of the request; they forget it.

    Args:
        engine: vLLM's engine client.
        ticket: As the request carried it.
    """
    by_worker = await engine.collective_rpc(CALL, args=([ticket],))
    return [one for kept in by_worker for one in kept[ticket]]
