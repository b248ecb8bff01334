"""Work spread over a Ray cluster, with the results of one process.

The driver keeps prompts, judges and folders and loads no model; each worker loads the model it is given tasks of.
"""

from lenssteer.cluster.calibrating import cluster_calibrate
from lenssteer.cluster.capturing import cluster_activations, cluster_moments, cluster_samples
from lenssteer.cluster.evaluating import cluster_capability
from lenssteer.cluster.pool import Pool
from lenssteer.cluster.remote import remote_models
from lenssteer.cluster.sweeping import SweepJob, cluster_sweep
from lenssteer.cluster.worker import ModelSpec

__all__ = ["ModelSpec", "Pool", "SweepJob", "cluster_activations", "cluster_calibrate", "cluster_capability",
           "cluster_moments", "cluster_samples", "cluster_sweep", "remote_models"]
