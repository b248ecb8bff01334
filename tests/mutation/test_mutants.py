"""What is mutated, what is left out, and that a mutant is one change of a whole module."""

import ast

import pytest

SOURCE = '''"""A module: 1 + 2."""

from dataclasses import dataclass

LIMIT = 3
Scalar = int | None
__all__ = ["f"]


@dataclass(frozen=True)
class Held:
    n: int = 4

    @property
    def twice(self) -> int | None:
        """Twice n: 2 n."""
        return 2 * self.n


def f(x: int, *, strict: bool = True) -> str:
    def inner(y):
        return y - 1

    if x > LIMIT and strict:
        raise ValueError(f"{x} is too much")
    return "text"[inner(x):]
'''


@pytest.fixture
def mutants(tmp_path):
    pytest.importorskip("mutmut")
    from tests.mutation.mutants import mutants_of

    path = tmp_path / "module.py"
    path.write_text(SOURCE, encoding="utf-8")
    return mutants_of(path, tmp_path)


def test_functions_are_mutated_and_words_types_and_constants_are_not(mutants):
    found = {(one.function, one.change) for one in mutants}
    assert found == {
        ("Held.twice", "2 * self.n -> 2 / self.n"), ("Held.twice", "2 -> 3"), ("f", "True -> False"), ("f", "y - 1 -> y + 1"), ("f", "1 -> 2"),
        ("f", "x > LIMIT and strict -> x > LIMIT or strict"), ("f", "> LIMIT -> >= LIMIT"),
        ("f", 'ValueError(f"{x} is too much") -> ValueError(None)'), ("f", "inner(x) -> inner(None)"),
    }


def test_every_mutant_is_the_module_with_one_line_changed(mutants):
    assert len({one.key for one in mutants}) == len(mutants)
    for one in mutants:
        changed = one.source().splitlines()
        ast.parse(one.source())
        differ = [i + 1 for i, (old, new) in enumerate(zip(SOURCE.splitlines(), changed, strict=True)) if old != new]
        assert differ == [one.first]
        assert one.first in one.inside
        assert one.source(control=True) == SOURCE


def test_a_key_depends_on_the_function_alone(mutants, tmp_path):
    from tests.mutation.mutants import mutants_of

    moved = tmp_path / "module.py"
    moved.write_text(SOURCE.replace("LIMIT = 3", "\n\nLIMIT = 33").replace("2 * self.n", "5 * self.n"), encoding="utf-8")
    again = mutants_of(moved, tmp_path)
    keys = [{one.key for one in side if one.function == "f"} for side in (mutants, again)]
    assert keys[0] == keys[1]
    assert {one.key for one in mutants if one.function == "Held.twice"}.isdisjoint(one.key for one in again)
