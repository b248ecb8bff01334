"""What a model is: its weights, and every hook of every module, in order."""

import hashlib

import torch

HOOKS = ("_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks",
         "_forward_pre_hooks_with_kwargs", "_backward_hooks", "_backward_pre_hooks")
LENS_HOOKS = ("fwd_hooks", "bwd_hooks")


def modules_of(lens) -> list:
    """Every module of a LensModel's model, hook points and the model inside a Bridge too, each once."""
    model = lens.backend.model
    found = [*model.modules(), *getattr(model, "hook_dict", {}).values()]
    inside = getattr(model, "original_model", None)
    found += [] if inside is None else inside.modules()
    return list({id(module): module for module in found}.values())


def hooks_of(lens) -> list:
    """By module and kind: which hooks, in which order. Of TransformerLens' handles also whether they are permanent."""
    found = []
    for number, module in enumerate(modules_of(lens)):
        for kind in HOOKS:
            found += [(number, kind, key, id(hook)) for key, hook in getattr(module, kind).items()]
        for kind in LENS_HOOKS:
            found += [(number, kind, id(handle), handle.is_permanent) for handle in getattr(module, kind, ())]
    return found


def weights_of(lens) -> str:
    """Hash of every parameter and buffer, with its name, dtype and bytes."""
    digest = hashlib.sha256()
    for number, module in enumerate(modules_of(lens)):
        for name, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            digest.update(f"{number} {name} {tensor.dtype} {tuple(tensor.shape)} {tensor.requires_grad}".encode())
            digest.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def state_of(lens) -> dict:
    """All of it, and what a LensModel and torch keep of a run under way."""
    return {"weights": weights_of(lens), "hooks": hooks_of(lens), "hooked": list(lens._hooked),
            "passes": dict(lens._passes), "readers": list(lens._prompt_readers), "costs": len(lens._costs),
            "gradients": torch.is_grad_enabled(), "inference": torch.is_inference_mode_enabled(),
            "training": [module.training for module in modules_of(lens)]}
