"""Steering as one low-rank map; every method is a constructor of it."""

from lenssteer.edits.ablation import ablate
from lenssteer.edits.addition import add
from lenssteer.edits.alphasteer import alphasteer
from lenssteer.edits.angle import set_angle
from lenssteer.edits.component import clamp, reflect, scale
from lenssteer.edits.edit import LowRankEdit, apply_edit, coordinates
from lenssteer.edits.encoded import SaeEdit
from lenssteer.edits.gating import gated
from lenssteer.edits.projection import steer_to_mirror, steer_to_target
from lenssteer.edits.rotation import rotate_by, rotate_to
from lenssteer.edits.sae import ablate_latent, clamp_latent, scale_latent

__all__ = [
    "LowRankEdit", "SaeEdit", "ablate", "ablate_latent", "add", "alphasteer", "apply_edit", "clamp", "clamp_latent",
    "coordinates", "gated", "reflect", "rotate_by", "rotate_to", "scale", "scale_latent", "set_angle",
    "steer_to_mirror", "steer_to_target",
]
