"""Prompts, contrast sets, chat templates and the token path."""

from lenssteer.prompts.chat import Prompt, render
from lenssteer.prompts.contrast import ContrastSet, PromptWarning
from lenssteer.prompts.exchange import AnswerContrast, Exchange, with_system
from lenssteer.prompts.files import read_prompts, read_records
from lenssteer.prompts.seen import hashes, prompt_hash, refuse_seen
from lenssteer.prompts.tokens import Columns, Encoded, Tokens, batches, encode, pad

__all__ = [
    "AnswerContrast", "Columns", "ContrastSet", "Encoded", "Exchange", "Prompt", "PromptWarning", "Tokens", "batches",
    "encode", "hashes", "pad", "prompt_hash", "read_prompts", "read_records", "refuse_seen", "render", "with_system",
]
