"""How much a file may ask for before anything is allocated for it."""

MIB, GIB = 2**20, 2**30

DESCRIPTION = 16 * MIB
"""Bytes of a JSON description, or of one line of a file of lines."""
PROMPTS = 256 * MIB
"""Bytes of a file of prompts, and of what a compressed one unpacks to."""
RECORDS = 5_000_000
"""Records of a file of prompts."""
DEPTH = 64
"""Lists and objects within each other."""
DIGITS = 18
"""Digits of a whole number; more do not fit the 64 bits that tensors and other programs have for it."""
HEADER = 16 * MIB
"""Bytes of the header of a tensors file."""
ARRAYS = 100_000
"""Tensors of a file."""
AXES = 8
"""Axes of a tensor."""
TENSORS = 64 * GIB
"""Bytes of a tensors file."""
WEIGHTS = 1024 * GIB
"""Bytes of a file of a model's weights, of which only the header is read."""
