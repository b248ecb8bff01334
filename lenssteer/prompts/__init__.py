"""Prompts, contrast sets, chat templates and the token path."""

from lenssteer.prompts.chat import Prompt, render
from lenssteer.prompts.contrast import ContrastSet, PromptWarning
from lenssteer.prompts.files import read_prompts
from lenssteer.prompts.tokens import Columns, Encoded, Tokens, batches, encode, pad

__all__ = [
    "Columns", "ContrastSet", "Encoded", "Prompt", "PromptWarning", "Tokens", "batches", "encode", "pad",
    "read_prompts", "render",
]
