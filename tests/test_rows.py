import subprocess
import sys

import pytest

from lenssteer.errors import FileError
from lenssteer.rows import Rates, Row, read_rows, wilson_interval, write_rows

RATES = Rates(0.25, 0.5, 0.125, 8)
ROWS = [Row("selective", "all", "test", RATES, RATES, degrees=90.0), Row("unsteered", "none", "test", RATES, RATES)]


def test_rows_survive_a_file(tmp_path):
    write_rows(tmp_path / "rows.jsonl", ROWS[:1])
    write_rows(tmp_path / "rows.jsonl", ROWS[1:])
    assert read_rows(tmp_path / "rows.jsonl") == ROWS
    assert "coefficient" not in ROWS[0].as_dict()


def test_damaged_rows_are_refused(tmp_path):
    with pytest.raises(FileError, match="cannot read"):
        read_rows(tmp_path / "none.jsonl")
    (tmp_path / "bad.jsonl").write_text('{"method": 1}\n')
    with pytest.raises(FileError, match="line 1 is damaged at method"):
        read_rows(tmp_path / "bad.jsonl")


def test_wilson_interval_solves_its_equation():
    """Both ends satisfy (p - x)^2 = z^2 x (1 - x) / n."""
    for share, n in ((0.0, 10), (0.3, 50), (1.0, 120)):
        for end in wilson_interval(share, n):
            assert abs((share - end) ** 2 - 1.959963984540054**2 * end * (1 - end) / n) < 1e-12
    assert wilson_interval(0.5, 0) == (0.0, 1.0)


def test_rows_open_without_torch():
    code = "import sys, lenssteer.rows, lenssteer.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
