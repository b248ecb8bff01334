"""Models whose layers are on several devices, or wait on disk: where inputs go, and what the weights are."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lenssteer.errors import ModelError


def input_device(model: Any) -> torch.device:
    """Where token ids go: the device on which the embedding runs, wherever its weights wait."""
    embedding = model.get_input_embeddings()
    placed = [hook.execution_device for hook in _hooks(embedding) if hook.execution_device is not None]
    return torch.device(placed[0]) if placed else embedding.weight.device


class Weights(Mapping[str, Tensor]):
    """Parameters by name, read one at a time where they wait on disk.

    Raises:
        ModelError: when a parameter has no values, here or on disk.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.here = dict(model.named_parameters())

    def __getitem__(self, name: str) -> Tensor:
        parameter = self.here[name]
        if parameter.device.type != "meta":
            return parameter
        owner, _, leaf = name.rpartition(".")
        for hook in _hooks(self.model.get_submodule(owner)):
            if hook.weights_map is not None:
                return hook.weights_map[leaf]
        raise ModelError(f"{name} is on the meta device and nothing says where its values are; load the model with "
                         "from_pretrained(..., device_map=...).")

    def __iter__(self) -> Iterator[str]:
        return iter(self.here)

    def __len__(self) -> int:
        return len(self.here)


def _hooks(module: nn.Module) -> list[Any]:
    """What accelerate has put on a module to place its weights and inputs."""
    hook = getattr(module, "_hf_hook", None)
    return [one for one in getattr(hook, "hooks", [hook]) if hasattr(one, "execution_device")]
