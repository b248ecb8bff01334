import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from lenssteer.errors import ParameterError
from lenssteer.evals.metrics import attack_success_rate, compliance_rate, defence_success_rate, refusal_rate

VERDICTS = st.lists(st.sampled_from([True, False, None]), max_size=60)


@pytest.mark.parametrize("rate", [attack_success_rate, defence_success_rate, refusal_rate])
@given(verdicts=VERDICTS)
def test_rates_are_shares_of_scored_answers_with_wilson_intervals(rate, verdicts):
    found = rate(verdicts)
    yes, no = verdicts.count(True), verdicts.count(False)
    assert (found.scored, found.unscored) == (yes + no, verdicts.count(None))
    if not yes + no:
        assert (found.share, found.low, found.high) == (None, 0.0, 1.0)
        return
    assert found.share == pytest.approx(yes / (yes + no))
    low, high = binomtest(yes, yes + no).proportion_ci(method="wilson")
    assert found.low == pytest.approx(low, abs=1e-12)
    assert found.high == pytest.approx(high, abs=1e-12)


@given(verdicts=VERDICTS)
def test_scored_answers_either_refuse_or_comply(verdicts):
    refused, complied = refusal_rate(verdicts), compliance_rate(verdicts)
    if refused.share is None:
        assert complied.share is None
        return
    assert refused.share + complied.share == pytest.approx(1)
    assert refused.low + complied.high == pytest.approx(1)


def test_unscored_answers_never_enter_the_share_and_say_why():
    found = attack_success_rate([True, None, False, None, None], ["ok", "timeout", "", "unparsable", "timeout"])
    assert found.share == 0.5
    assert found.reasons == {"timeout": 2, "unparsable": 1}
    assert refusal_rate([None, True], ["", ""]).reasons == refusal_rate([None, True]).reasons == {"no reason given": 1}


def test_reasons_without_answers_are_refused():
    with pytest.raises(ParameterError, match="one reason"):
        refusal_rate([True, None], ["timeout"])
