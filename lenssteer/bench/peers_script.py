"""Other libraries on the same model, prompts and work; runs in their environment, where lenssteer is not installed.

    python peers_script.py FOLDER ASKED.json

ASKED.json holds prompts, asked (those that are answered), new_tokens, repeats and threads. One JSON line comes out: by
library the pairs of seconds [library, plain] of capture and of steered decoding, or what went wrong.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

Work = Callable[[], object]
BATCH = 64


class Bed:
    """The model, its tokenizer, and the plain work that everything is compared with."""

    def __init__(self, folder: str, asked: dict[str, Any]) -> None:
        transformers, self.torch = import_module("transformers"), import_module("torch")
        self.torch.set_num_threads(asked["threads"])
        self.prompts, self.asked, self.new = asked["prompts"], asked["asked"], asked["new_tokens"]
        self.model = transformers.LlamaForCausalLM.from_pretrained(folder, dtype=self.torch.float32).eval()
        self.tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(Path(folder) / "tokenizer.json"),
                                                              padding_side="left")
        # Padding is masked, so any token will do.
        self.tokenizer.pad_token = self.tokenizer.convert_ids_to_tokens(0)
        self.layers = list(range(self.model.config.num_hidden_layers))

    def batches(self) -> list[Any]:
        """Padded prompts, longest first, as many a batch as the libraries are told to take."""
        ordered = self.ordered()
        return [self.tokenizer(ordered[i : i + BATCH], return_tensors="pt", padding=True)
                for i in range(0, len(ordered), BATCH)]

    def ordered(self) -> list[str]:
        """Prompts, longest first."""
        return sorted(self.prompts, key=lambda prompt: -len(self.tokenizer(prompt)["input_ids"]))

    def forward(self) -> None:
        """The bare pass, tokenising included, as the libraries' includes it."""
        with self.torch.no_grad():
            for batch in self.batches():
                self.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], logits_to_keep=1)

    def decode(self, model: Any = None) -> None:
        """Greedy answers of full length, in one batch."""
        batch = self.tokenizer(self.asked, return_tensors="pt", padding=True)
        with self.torch.no_grad():
            (model or self.model).generate(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], max_new_tokens=self.new,
                min_new_tokens=self.new, do_sample=False, pad_token_id=0)


def repeng(bed: Bed) -> dict[str, tuple[Work, Work]]:
    """Hidden states of all layers at the last token; a control vector at all layers but the first."""
    extract, library = import_module("repeng.extract"), import_module("repeng")
    steered = bed.layers[1:]
    vectors = {layer: bed.torch.randn(bed.model.config.hidden_size).numpy() * 0.01 for layer in steered}
    vector = library.ControlVector(model_type="llama", directions=vectors)

    def decode() -> None:
        wrapped = library.ControlModel(bed.model, steered)
        try:
            wrapped.set_control(vector, 1.0)
            bed.decode(wrapped)
        finally:
            wrapped.unwrap()

    def capture() -> None:
        extract.batched_get_hiddens(bed.model, bed.tokenizer, bed.ordered(), bed.layers, BATCH)

    return {"capture": (capture, bed.forward), "decode": (decode, bed.decode)}


def steering_vectors(bed: Bed) -> dict[str, tuple[Work, Work]]:
    """A steering vector of all layers, trained and applied."""
    library = import_module("steering_vectors")
    half = len(bed.prompts) // 2
    ordered = bed.ordered()
    pairs = [library.SteeringVectorTrainingSample(a, b) for a, b in zip(ordered[::2], ordered[1::2])][:half]
    train = {"layers": bed.layers, "show_progress": False}
    vector = library.train_steering_vector(bed.model, bed.tokenizer, pairs[:2], batch_size=2, **train)

    def decode() -> None:
        with vector.apply(bed.model, multiplier=0.01):
            bed.decode()

    def capture() -> None:
        library.train_steering_vector(bed.model, bed.tokenizer, pairs, batch_size=BATCH, **train)

    return {"capture": (capture, bed.forward), "decode": (decode, bed.decode)}


def nnsight(bed: Bed) -> dict[str, tuple[Work, Work]]:
    """The outputs of all layers at the last token, saved in a trace."""
    library = import_module("nnsight")
    model = library.LanguageModel(bed.model, tokenizer=bed.tokenizer)

    def capture() -> None:
        for batch in bed.batches():
            found = []
            with model.trace({"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}), \
                    bed.torch.no_grad():
                for layer in model.model.layers:
                    out = layer.output
                    found.append((out[0] if isinstance(out, tuple) else out)[:, -1].save())

    return {"capture": (capture, bed.forward)}


LIBRARIES: dict[str, Callable[[Bed], dict[str, tuple[Work, Work]]]] = {
    "repeng": repeng, "steering-vectors": steering_vectors, "nnsight": nnsight}


def pairs(work: Work, plain: Work, repeats: int) -> list[list[float]]:
    """Seconds of both, in turn, after one run of each."""
    work()
    plain()
    return [[_seconds(work), _seconds(plain)] for _ in range(repeats)]


def _seconds(work: Work) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main(arguments: Sequence[str]) -> None:
    """Measure every library; one that fails says why."""
    asked = json.loads(Path(arguments[1]).read_text(encoding="utf-8"))
    bed = Bed(arguments[0], asked)
    found: dict[str, Any] = {}
    for name, make in LIBRARIES.items():
        one: dict[str, Any] = {"version": ""}
        try:
            one["version"] = version(name)
            for kind, (work, plain) in make(bed).items():
                one[kind] = pairs(work, plain, asked["repeats"])
        except Exception as error:  # whatever a library raises is its result
            one["error"] = f"{type(error).__name__}: {error}"
        found[name] = one
    sys.stdout.write("\n" + json.dumps(found) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
