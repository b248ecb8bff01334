"""Control vectors do in llama.cpp what the steerer does here. CONTRIBUTING.md says how to run this."""

import ctypes
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from tests.conftest import shared

llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed; see CONTRIBUTING.md")
gguf = pytest.importorskip("gguf", reason="the gguf package is not installed")

from tests.exports.llama_gguf import write_llama  # noqa: E402  # needs gguf

TOLERANCE = 2e-4
MODELS = ("demo", "stories260k-refusal")


class Llama:
    """A context of llama.cpp that gives the logits of every token."""

    def __init__(self, path):
        llama_cpp.llama_log_set(QUIET, ctypes.c_void_p(0))
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
        assert self.model
        options = llama_cpp.llama_context_default_params()
        options.n_ctx, options.n_batch, options.n_ubatch, options.n_threads, options.n_threads_batch = 128, 128, 128, 1, 1
        options.type_k = options.type_v = llama_cpp.GGML_TYPE_F32
        options.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.context = llama_cpp.llama_init_from_model(self.model, options)
        assert self.context
        self.layers = llama_cpp.llama_model_n_layer(self.model)
        self.width = llama_cpp.llama_model_n_embd(self.model)

    def steer(self, path):
        """Lay the file out as llama.cpp's own loader does: layer N at place N - 1, all others zero."""
        data = np.zeros((self.layers - 1, self.width), dtype=np.float32)
        for tensor in gguf.GGUFReader(path).tensors:
            data[int(tensor.name.removeprefix("direction.")) - 1] = tensor.data
        pointer = data.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        assert llama_cpp.llama_set_adapter_cvec(self.context, pointer, data.size, self.width, 1, self.layers) == 0

    def logits(self, ids):
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)
        batch = llama_cpp.llama_batch_init(len(ids), 0, 1)
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = token, i, 1, 0, 1
        batch.n_tokens = len(ids)
        assert llama_cpp.llama_decode(self.context, batch) == 0
        vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        found = np.ctypeslib.as_array(llama_cpp.llama_get_logits(self.context), shape=(len(ids), vocab)).copy()
        llama_cpp.llama_batch_free(batch)
        return torch.from_numpy(found)


QUIET = llama_cpp.llama_log_callback(lambda *_: None)


@pytest.fixture(scope="module", params=MODELS)
def pair(request, tmp_path_factory):
    """A model of ours and the same in llama.cpp."""
    from lenssteer.models import load_model

    name = request.param
    model = load_model(name if name == "demo" else shared(f"models/{name}"), backend="hf")
    return model, Llama(write_llama(model.backend.model, tmp_path_factory.mktemp("gguf") / "model.gguf"))


def ours(model, ids, steerer=None):
    from lenssteer.prompts import Encoded, pad

    tokens = pad([Encoded(tuple(ids), (0, len(ids)), len(ids))], pad_id=0)
    with steerer.on(model) if steerer else nullcontext():
        return model.logits(tokens)[0].float()


def additive(model, sites):
    """Constants of the size of the stream, drawn anew for every site."""
    from lenssteer.edits import add
    from lenssteer.site import Site
    from lenssteer.steering import Steerer

    draw = torch.Generator().manual_seed(3)
    return Steerer({Site.parse(site): add(torch.randn(model.card.d_model, generator=draw, dtype=torch.float64), 0.3)
                    for site in sites}, card=model.card)


IDS = torch.randint(5, 200, (24,), generator=torch.Generator().manual_seed(7)).tolist()


def test_unsteered_logits_agree(pair):
    model, llama = pair
    expected = ours(model, IDS)
    torch.testing.assert_close(llama.logits(IDS), expected, atol=TOLERANCE * expected.abs().max().item(), rtol=0)


@pytest.mark.parametrize("sites", [("resid_post.1",), ("resid_post.2", "resid_pre.4"), ("resid_pre.2", "resid_post.1"),
                                   ("last",)])
def test_steered_logits_agree(pair, sites, tmp_path):
    from lenssteer.exports import export_gguf

    model, llama = pair
    steerer = additive(model, [f"resid_post.{model.card.n_layers - 1}" if site == "last" else site for site in sites])
    plain, steered = ours(model, IDS), ours(model, IDS, steerer)
    llama.steer(export_gguf(steerer, tmp_path / "vector.gguf"))
    found = llama.logits(IDS)
    assert (steered - plain).abs().max() > 0.5, "the vector does something"
    torch.testing.assert_close(found, steered, atol=TOLERANCE * steered.abs().max().item(), rtol=0)
