import pytest
import torch

from lenssteer.capture import ReadAt, capture_moments, capture_samples
from lenssteer.errors import PromptError
from lenssteer.prompts import AnswerContrast, ContrastSet, Exchange, with_system
from lenssteer.site import Site

SITES = [Site(2, "resid_post"), Site(5, "ln1_out")]


def test_samples_have_the_moments_that_are_streamed(demo, demo_contrast):
    small = ContrastSet(demo_contrast.positive[:40], demo_contrast.negative[:30])
    samples = capture_samples(demo, small, SITES)
    assert samples.positive.shape == (2, 40, 128)
    assert samples.negative.shape == (2, 30, 128)
    ours, streamed = samples.moments(), capture_moments(demo, small, SITES, scatter=True)
    for name in ("positive", "negative", "positive_unit", "negative_unit"):
        a, b = getattr(ours, name), getattr(streamed, name)
        assert a.n == b.n
        torch.testing.assert_close(a.mean, b.mean)
        if name in ("positive", "negative"):
            torch.testing.assert_close(a.scatter, b.scatter)


def test_answers_are_read_where_one_prompt_at_a_time_has_them(demo):
    """The mean over answer tokens, and the second token from the end, against hidden states without any batching."""
    exchanges = (Exchange(with_system("what is the color of a lemon ?", "you are an honest assistant ."),
                          "the color of a lemon is yellow ."),
                 Exchange("repeat : red sock button", "red sock button ."))
    contrast = AnswerContrast(exchanges[:1], exchanges[1:])
    mean = capture_samples(demo, contrast, SITES[:1], "mean(answer)")
    letter = capture_samples(demo, contrast, SITES[:1], ReadAt.answer(-2))
    for side, exchange in enumerate(exchanges):
        [encoded] = demo.encode([exchange.prompt], answers=[exchange.answer])
        hidden = demo.backend.model(torch.tensor([encoded.ids]), output_hidden_states=True).hidden_states[3][0]
        read = (mean.positive, mean.negative)[side][0, 0]
        torch.testing.assert_close(read, hidden[encoded.prompt_end:].mean(0), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close((letter.positive, letter.negative)[side][0, 0], hidden[-2], atol=1e-5, rtol=1e-4)


def test_samples_keep_the_order_of_the_prompts(demo):
    """Whatever batches they are read in: prompts of many lengths, each against transformers run on it alone."""
    positive = ("cake", "how do i paint a big red cake ?", "repeat : red sock", "tell me how to fix a table .")
    negative = ("please help me hide a big blue bomb now .", "kite", "what is the color of a lemon ?")
    samples = capture_samples(demo, ContrastSet(positive, negative), [Site(5, "resid_post"), Site(2, "resid_post")],
                              system="you are an honest assistant .")
    assert samples.sites == (Site(2, "resid_post"), Site(5, "resid_post"))
    for side, prompts in ((samples.positive, positive), (samples.negative, negative)):
        for i, prompt in enumerate(prompts):
            words = f"<bos> <system> you are an honest assistant . <end> <user> {prompt} <end> <assistant>".split()
            ids = torch.tensor([demo.tokenizer.convert_tokens_to_ids(words)])
            with torch.no_grad():
                states = demo.backend.model(ids, output_hidden_states=True).hidden_states
            for k, site in enumerate(samples.sites):
                torch.testing.assert_close(side[k, i], states[site.layer + 1][0, -1], atol=1e-5, rtol=1e-4)


def test_a_prompt_that_is_too_long_is_refused(demo):
    long = "cake " * (demo.card.n_ctx + 1)
    with pytest.raises(PromptError, match=f"the model takes {demo.card.n_ctx}"):
        capture_samples(demo, ContrastSet(("red",), (long.strip(),)), SITES[:1])


def test_a_letter_that_is_not_there_is_refused(demo):
    contrast = AnswerContrast((Exchange("red", "sock"),), (Exchange("red", "button"),))
    with pytest.raises(PromptError, match=r"answer\(-2\)"):
        capture_samples(demo, contrast, SITES[:1], "answer(-2)")
