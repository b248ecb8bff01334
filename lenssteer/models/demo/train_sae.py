"""Train the demo model's sparse autoencoder: `python -m lenssteer.models.demo.train_sae [--out DIR] [--layer 3]`.

SAELens' own runner does the training (BatchTopK, saved as JumpReLU); lenssteer gives it the model, raw weights and no
hub, and conversations of the demo world. Needs `pip install sae-lens`.
"""

import argparse
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from sae_lens import BatchTopKTrainingSAEConfig, LanguageModelSAERunnerConfig, LanguageModelSAETrainingRunner
from sae_lens.config import LoggingConfig

from lenssteer.models import load_model
from lenssteer.models.demo import SAE
from lenssteer.models.demo.batches import encode
from lenssteer.models.demo.curriculum import training_conversations

CONTEXT = 128
"""Tokens of a row, all that the model takes; a conversation has 14 to 128 of them."""
TOKENS_A_ROW = 50
"""Fewer than the mean over conversations, so that no row is seen twice."""


def conversation_ids(tokenizer: Any, count: int, seed: int) -> Dataset:
    """Token ids of conversations with their answers, padded on the right to `CONTEXT`."""
    pad = tokenizer.pad_token_id
    rows = (encode(tokenizer, row)[0][:CONTEXT] for row in islice(training_conversations("conversations", seed), count))
    return Dataset.from_dict({"input_ids": [ids + [pad] * (CONTEXT - len(ids)) for ids in rows]})


def runner_config(layer: int, tokens: int, seed: int, pad: int, bos: int) -> LanguageModelSAERunnerConfig[Any]:
    """What SAELens is told; padding and the first token, whose activation never changes, are left out."""
    steps = tokens // 1024
    return LanguageModelSAERunnerConfig(
        sae=BatchTopKTrainingSAEConfig(d_in=128, d_sae=512, k=12, normalize_activations="expected_average_only_in"),
        model_name="lenssteer-demo",
        hook_name=f"blocks.{layer}.hook_resid_post",
        dataset_path="lenssteer demo world",
        context_size=CONTEXT,
        training_tokens=tokens,
        train_batch_size_tokens=1024,
        n_batches_in_buffer=16,
        store_batch_size_prompts=64,
        n_batches_for_norm_estimate=20,
        exclude_special_tokens=[pad, bos],
        lr=1e-3,
        lr_warm_up_steps=steps // 20,
        lr_decay_steps=steps // 3,
        dead_feature_window=200,
        feature_sampling_window=500,
        seed=seed,
        checkpoint_path=None,
        output_path=None,
        logger=LoggingConfig(log_to_wandb=False),
    )


def train(folder: Path, layer: int, tokens: int, seed: int) -> None:
    """Train an autoencoder of the block output of a layer and write it to `folder` in SAELens' layout.

    Its metadata holds the fingerprint of the model, so that a test can tell whether the weights have changed since.
    """
    torch.manual_seed(seed)
    model = load_model("demo", backend="hooked")
    tokenizer = model.tokenizer
    config = runner_config(layer, tokens, seed, tokenizer.pad_token_id, tokenizer.bos_token_id)
    data = conversation_ids(tokenizer, tokens // TOKENS_A_ROW, seed)
    backend: Any = model.backend
    sae = LanguageModelSAETrainingRunner(config, override_dataset=data, override_model=backend.model).run()
    sae.cfg.metadata.model_fingerprint = model.card.fingerprint
    sae.save_inference_model(folder)


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=SAE)
    parser.add_argument("--layer", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=1_500_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    train(arguments.out, arguments.layer, arguments.tokens, arguments.seed)


if __name__ == "__main__":
    main()
