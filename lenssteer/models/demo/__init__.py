"""The embedded demo model: a tiny chat model that refuses, in a world that is harmless by construction."""

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
"""Folder of the trained model, in Hugging Face layout."""
