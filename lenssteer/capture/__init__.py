"""Reading activations, as moments or as samples."""

from lenssteer.capture.capture import ClassMoments, activations, capture_moments
from lenssteer.capture.positions import ReadAt
from lenssteer.capture.samples import ClassSamples, capture_samples
from lenssteer.capture.store import ActivationStore

__all__ = ["ActivationStore", "ClassMoments", "ClassSamples", "ReadAt", "activations", "capture_moments",
           "capture_samples"]
