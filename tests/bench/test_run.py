import json

import pytest

from lenssteer.bench import BENCHMARKS, Benchmark, Found, Ratio, chosen, run_benchmarks
from lenssteer.bench.markdown import markdown
from lenssteer.errors import ModelError, ParameterError

FIELDS = {"median", "low", "high", "pairs", "cpu", "over", "under", "what", "target", "better", "met"}
ONE = Ratio(2.0, 1.0, 3.0, 3, 2.0, 4.0, 2.0, "a over b", 1.5, "lower")


def test_one_that_fails_is_told_and_the_others_go_on(stand):
    def fails(_stand):
        yield Found({"first": ONE})
        raise ModelError("no such thing")

    report = run_benchmarks(stand, [Benchmark("a", "", fails), Benchmark("b", "", lambda _: iter([Found({"x": ONE})]))])
    assert report.failed == {"a": "ModelError: no such thing"}
    assert list(report.found.ratios) == ["first", "x"]


def test_what_was_found_before_an_interruption_is_kept(stand):
    def stopped(_stand):
        yield Found(tokens_per_second={"hf": 3.0})
        raise KeyboardInterrupt

    report = run_benchmarks(stand, [Benchmark("a", "", stopped), Benchmark("b", "", lambda _: iter([Found({"x": ONE})]))])
    assert report.interrupted
    assert report.as_dict()["tokens_per_second"] == {"hf": 3.0}
    assert not report.found.ratios


def test_the_json_and_the_tables(stand):
    piece = Found({"capture_over_forward": ONE, "dense_over_lowrank": Ratio(30, 29, 31, 3, None, 1, 1, "x", 20, "higher")},
                  [{"prompts": 2, "layers": 1, "d_model": 64, "loaded_mib": 10.0, "peak_mib": 11.0, "added_mib": 1.0}],
                  {"hf": 12.34}, ["a note"])
    found = run_benchmarks(stand, [Benchmark("a", "", lambda _: iter([piece]))]).as_dict()
    assert json.loads(json.dumps(found)) == found
    assert set(found["ratios"]["capture_over_forward"]) == FIELDS
    assert found["missed"] == ["capture_over_forward"]
    assert {"cpu", "cores", "threads", "memory_gib", "device", "dtype", "date", "versions"} <= set(found["machine"])
    page = markdown(found)
    assert "| `capture_over_forward` | 2.00 | 1.00 to 3.00 | 2.00 | at most 1.5 | **missed** |" in page
    assert "| `dense_over_lowrank` | 30.00 | 29.00 to 31.00 |  | at least 20 | met |" in page
    assert "| 2 | 1 | 64 | 10 | 1 |" in page
    assert "| hf | 12 |" in page
    assert "- a note" in page


def test_names_are_chosen_in_the_order_of_the_catalogue():
    assert [one.name for one in chosen(["headline", "capture"], False)] == ["capture", "headline"]
    assert "peers" not in [one.name for one in chosen([], False)]
    assert [one.name for one in chosen(["capture"], True)] == ["capture", "peers"]
    assert len(chosen([], True)) == len(BENCHMARKS)
    with pytest.raises(ParameterError, match="capture"):
        chosen(["captur"], False)
