"""Steerers in the formats of other tools, and vectors and planes from theirs.

    export_gguf         additions at block outputs               llama.cpp control vector
    export_checkpoint   edits that are affine in some weights    Hugging Face folder without hooks
    export_torch        any low-rank edit                        a file of PyTorch hooks
    import_steerer      control vectors, vectors by layer, planes
"""

from lenssteer.exports.checkpoint import export_checkpoint
from lenssteer.exports.gguf import export_gguf
from lenssteer.exports.importing import import_steerer
from lenssteer.exports.torch_hooks import export_torch

__all__ = ["export_checkpoint", "export_gguf", "export_torch", "import_steerer"]
