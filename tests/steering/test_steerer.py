import json
from dataclasses import replace

import pytest
import torch

from lenssteer import edits
from lenssteer.edits import LowRankEdit
from lenssteer.errors import FileError, MismatchError, ShapeError, SiteError, SteeringError
from lenssteer.models import Decoding, generate
from lenssteer.prompts import pad
from lenssteer.site import Site
from lenssteer.steering import Steerer, Where, hook_function
from tests.conftest import hooked_only

PROMPTS = ["how do i paint a red cake ?", "repeat : cake kite", "what is the color of a lemon ?"]
SITE = Site(3, "resid_post")


@pytest.fixture(scope="module")
def vector(demo):
    return torch.randn(demo.card.d_model, generator=torch.Generator().manual_seed(0)) * 2


def hook_counts(lens) -> int:
    modules = lens.backend.model.modules()
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules)


def test_logits_equal_an_edit_made_by_hand(demo, vector):
    """A plain torch hook on the block's module, written without lenssteer, is the oracle."""
    tokens = pad(demo.encode(PROMPTS[:1]))
    block = demo.backend.model.model.layers[SITE.layer]
    handle = block.register_forward_hook(lambda m, a, out: out + vector)
    by_hand = demo.logits(tokens)
    handle.remove()
    with Steerer({SITE: edits.add(vector)}).on(demo):
        assert torch.equal(demo.logits(tokens), by_hand)


def test_the_model_is_untouched_afterwards_and_after_an_exception(demo_models, vector):
    for lens in demo_models.values():
        tokens = pad(lens.encode(PROMPTS))
        clean, hooks = lens.logits(tokens), hook_counts(lens)
        steerer = Steerer({Site(2, stream): edits.add(vector) for stream in lens.backend.streams})
        with steerer.on(lens):
            assert not torch.equal(lens.logits(tokens), clean)
        with pytest.raises(ZeroDivisionError), steerer.on(lens):
            lens.logits(tokens)
            raise ZeroDivisionError
        assert hook_counts(lens) == hooks
        assert torch.equal(lens.logits(tokens), clean)


def test_hooks_of_the_user_survive(demo, vector):
    calls = []
    handle = demo.backend.model.model.layers[3].register_forward_hook(lambda *a: calls.append(1))
    with Steerer({SITE: edits.add(vector)}).on(demo):
        demo.logits(pad(demo.encode(PROMPTS)))
    demo.logits(pad(demo.encode(PROMPTS)))
    handle.remove()
    assert len(calls) == 2


def test_steerers_nest_in_order(demo, vector):
    tokens = pad(demo.encode(PROMPTS))
    outer, inner = edits.add(vector), edits.ablate(vector)
    with Steerer({SITE: outer}).on(demo), Steerer({SITE: inner}).on(demo):
        nested = demo.logits(tokens)
    with Steerer({SITE: inner}).on(demo):
        torch.testing.assert_close(demo.logits(tokens), nested)
    with Steerer({SITE: inner}).on(demo), Steerer({SITE: outer}).on(demo):
        assert not torch.allclose(demo.logits(tokens), nested)


@pytest.mark.parametrize("where", ["all", "prompt", "generated", "after_instruction", "last_prompt", "first_n(2)"])
def test_where_is_the_same_with_and_without_cache_in_any_batch(demo_models, vector, where):
    steerer = Steerer({Site(i, "resid_post"): edits.add(vector / 2) for i in (2, 4)}, Where.parse(where))
    answers, receipts = [], []
    for lens in demo_models.values():
        for use_cache in (True, False):
            for batch_size in (3, 1):
                with steerer.on(lens) as receipt:
                    answers.append(generate(lens, PROMPTS, Decoding(8, use_cache=use_cache), batch_size=batch_size))
                if use_cache:
                    receipts.append({s: (r.seen, r.selected, r.edited) for s, r in receipt.sites.items()})
    assert all(answer == answers[0] for answer in answers)
    assert all(receipt == receipts[0] for receipt in receipts)


def test_the_rules_steer_differently(demo, vector):
    answers = {}
    for where in ("all", "prompt", "generated", "last_prompt"):
        with Steerer({SITE: edits.add(4 * vector)}, Where.parse(where)).on(demo):
            answers[where] = tuple(generate(demo, PROMPTS, Decoding(8)))
    assert len(set(answers.values())) == 4


def test_unselected_tokens_are_bit_identical(demo, vector):
    """With where=generated the prompt's activations downstream are those of the unsteered model."""
    tokens = pad(demo.encode(PROMPTS[:1], answers=["the cake"]))
    clean = demo.logits(tokens)
    with Steerer({SITE: edits.add(vector)}, Where("generated")).on(demo):
        steered = demo.logits(tokens)
    end = int(tokens.prompt_end[0])
    assert torch.equal(steered[:, :end], clean[:, :end])
    assert not torch.equal(steered[:, end:], clean[:, end:])


def test_row_i_gets_edit_i(demo, vector):
    stacked = Steerer({SITE: edits.add(vector, torch.tensor([0.0, 3.0, -3.0]))})
    with stacked.on(demo):
        together = generate(demo, PROMPTS, Decoding(8), batch_size=2)
    alone = []
    for prompt, coefficient in zip(PROMPTS, (0.0, 3.0, -3.0), strict=True):
        with Steerer({SITE: edits.add(vector, coefficient)}).on(demo):
            alone += generate(demo, [prompt], Decoding(8))
    assert together == alone


def test_rows_and_prompts_must_match(demo, vector):
    stacked = Steerer({SITE: edits.add(vector, torch.zeros(2))})
    with pytest.raises(ShapeError, match="2 rows"), stacked.on(demo):
        generate(demo, PROMPTS, Decoding(2))
    with pytest.raises(SteeringError, match="only 1 prompts"), stacked.on(demo):
        generate(demo, PROMPTS[:1], Decoding(2))


def test_the_receipt_counts_every_token_once(demo_models, vector):
    for lens in demo_models.values():
        encoded = lens.encode(PROMPTS)
        steerer = Steerer({Site(1, stream): edits.add(vector) for stream in lens.backend.streams})
        with steerer.on(lens) as receipt:
            lens.logits(pad(encoded))
        total = sum(len(one.ids) for one in encoded)
        for site in receipt.sites.values():
            assert (site.passes, site.seen, site.edited) == (1, total, total)
            assert site.mean_displacement == pytest.approx(vector.norm().item(), rel=1e-4)


def test_running_nothing_is_an_error(demo, vector):
    with pytest.raises(SteeringError, match="ran no pass"), Steerer({SITE: edits.add(vector)}).on(demo):
        pass


def test_a_rule_that_never_holds_is_an_error(demo, vector):
    steerer = Steerer({SITE: edits.add(vector)}, Where("generated"))
    with pytest.raises(SteeringError, match="chose no token"), steerer.on(demo):
        generate(demo, PROMPTS, Decoding(1))


def test_running_the_underlying_model_is_refused_where_columns_matter(demo, vector):
    ids = torch.tensor([[1, 5, 6]])
    with pytest.raises(SteeringError, match="run directly"), Steerer({SITE: edits.add(vector)}, Where("prompt")).on(demo):
        demo.backend.model(ids)
    with torch.no_grad(), Steerer({SITE: edits.add(vector)}).on(demo) as receipt:
        demo.backend.model(ids)
    assert receipt.sites[SITE].edited == 3


def test_another_model_width_layer_or_frame_is_refused(demo, vector):
    with pytest.raises(SiteError, match="layers 0 to 7"), Steerer({Site(99, "resid_post"): edits.add(vector)}).on(demo):
        pass
    with pytest.raises(MismatchError, match="d_model"), Steerer({SITE: edits.add(vector[:-1])}).on(demo):
        pass
    for change in ({"fingerprint": "0" * 16}, {"frame": "folded"}, {"n_layers": 3}):
        steerer = Steerer({SITE: edits.add(vector)}, card=replace(demo.card, **change))
        with pytest.raises(MismatchError, match="made on demo"), steerer.on(demo):
            pass
    with pytest.raises(SteeringError, match="at least one site"):
        Steerer({})


def test_a_card_fits_the_same_weights_on_every_backend(demo_models, vector):
    cards = [lens.card for lens in demo_models.values()]
    assert len({card.fingerprint for card in cards}) == 1
    for lens in demo_models.values():
        Steerer({SITE: edits.add(vector)}, card=cards[0]).check(lens)


def test_saved_steerers_do_the_same(demo, vector, tmp_path):
    basis = torch.linalg.qr(torch.randn(demo.card.d_model, 2, dtype=torch.float64)).Q.T.contiguous()
    gated = edits.rotate_to(basis, degrees=torch.tensor([10.0, 20.0, 30.0]), adaptive=True)
    capped = LowRankEdit(**edits.add(vector).tensors(), norm="cap")
    steerer = Steerer({SITE: gated, Site(4, "ln1_out"): capped}, Where.first_n(3), demo.card, {"method": "x", "n": 1})
    loaded = Steerer.load(steerer.save(tmp_path / "s"))
    assert (loaded.where, loaded.card, dict(loaded.provenance)) == (steerer.where, steerer.card, {"method": "x", "n": 1})
    for site in steerer.sites:
        assert loaded.edits[site].norm == steerer.edits[site].norm
        for name, tensor in steerer.edits[site].tensors().items():
            assert torch.equal(loaded.edits[site].tensors()[name], tensor)
    assert {p.name for p in (tmp_path / "s").iterdir()} == {"steerer.json", tensors_of(tmp_path / "s").name}


def test_a_shared_plane_is_stored_once(tmp_path):
    basis = torch.eye(2, 512, dtype=torch.float64)
    one, many = ({Site(i, "resid_post"): edits.rotate_by(basis, degrees=10) for i in range(n)} for n in (1, 40))
    small, large = Steerer(one).save(tmp_path / "a"), Steerer(many).save(tmp_path / "b")
    sizes = [tensors_of(folder).stat().st_size for folder in (small, large)]
    assert sizes[1] < 4 * sizes[0]


@pytest.mark.parametrize(("damage", "error", "message"), [
    (lambda f: (f / "steerer.json").unlink(), FileError, "is missing"),
    (lambda f: tensors_of(f).unlink(), FileError, "is missing"),
    (lambda f: (f / "steerer.json").write_text("{"), FileError, "damaged"),
    (lambda f: (f / "steerer.json").write_text("[]"), FileError, "does not describe"),
    (lambda f: tensors_of(f).write_bytes(b"abc"), FileError, "damaged"),
    (lambda f: _edit(f, format=99), MismatchError, "format version 99"),
    (lambda f: _edit(f, kind="calibration"), FileError, "does not describe"),
    (lambda f: _edit(f, sites=None), FileError, "damaged"),
    (lambda f: _edit(f, model={"name": "x"}), FileError, "damaged"),
])
def test_damaged_artefacts_are_refused(tmp_path, vector, damage, error, message):
    folder = Steerer({SITE: edits.add(vector)}).save(tmp_path / "s")
    damage(folder)
    with pytest.raises(error, match=message):
        Steerer.load(folder)


def tensors_of(folder):
    (found,) = folder.glob("tensors-*.safetensors")
    return found


def _edit(folder, **changes) -> None:
    meta = json.loads((folder / "steerer.json").read_text())
    (folder / "steerer.json").write_text(json.dumps(meta | changes))


def test_folders_that_cannot_be_written_are_refused(tmp_path, vector):
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileError, match="cannot write"):
        Steerer({SITE: edits.add(vector)}).save(tmp_path / "file" / "s")


@hooked_only
def test_a_teacher_can_use_the_hook_with_transformer_lens_alone(demo_models, vector):
    """`run_with_hooks` on the HookedTransformer itself, against a steerer."""
    lens = demo_models["hooked"]
    tokens = pad(lens.encode(PROMPTS[:1]))
    hooked = lens.backend.model
    with torch.no_grad():
        by_teacher = hooked.run_with_hooks(tokens.ids, fwd_hooks=[
            ("blocks.3.hook_resid_post", hook_function(edits.add(vector)))])
    with Steerer({SITE: edits.add(vector)}).on(lens):
        torch.testing.assert_close(lens.logits(tokens), by_teacher, atol=1e-5, rtol=0)


@hooked_only
def test_steering_a_model_loaded_by_hand(demo_models, vector):
    lens = demo_models["hooked"]
    tokens = pad(lens.encode(PROMPTS[:1]))
    with Steerer({SITE: edits.add(vector)}).on(lens):
        expected = lens.logits(tokens)
    with torch.no_grad(), Steerer({SITE: edits.add(vector)}).on(lens.backend.model):
        torch.testing.assert_close(lens.backend.model(tokens.ids), expected, atol=1e-5, rtol=0)
