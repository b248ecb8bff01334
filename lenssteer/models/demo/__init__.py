"""The embedded demo model: a tiny chat model that refuses, in a world that is harmless by construction."""

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
"""Folder of the trained model, in Hugging Face layout."""
CHAT_WEIGHTS = Path(__file__).parent / "chat_weights"
"""The same of its sibling for conversations."""

SAE = Path(__file__).parent / "sae"
"""Folder of a sparse autoencoder of a block output, in SAELens layout."""
