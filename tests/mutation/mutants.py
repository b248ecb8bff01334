"""Mutants of a module, made by the operators of mutmut.

Left out: strings, as the words of a message are worth no test; and what mutmut leaves out: annotations, decorators, what stands
outside of functions, calls of len and isinstance. Decorated functions, which mutmut leaves out too, are mutated.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.file_mutation import NEVER_MUTATE_FUNCTION_NAMES, MutationVisitor
from mutmut.mutation.mutators import mutation_operators, operator_string
from mutmut.mutation.pragma_handling import IgnoredCode

OPERATORS = [(kind, operator) for kind, operator in mutation_operators if operator is not operator_string]


@dataclass(frozen=True, eq=False)
class Mutant:
    """One change of one module.

    Args:
        function: Qualified name of the outermost function that holds it.
        first, last: Lines of what is changed.
        inside: Lines of the function.
    """

    path: Path
    function: str
    first: int
    last: int
    inside: range
    change: str
    key: str
    module: cst.Module
    nodes: tuple[cst.CSTNode, cst.CSTNode]

    def source(self, control: bool = False) -> str:
        """The whole module with the change, or as it is."""
        if control:
            return self.module.code
        changed = self.module.deep_replace(*self.nodes)
        assert isinstance(changed, cst.Module)
        return changed.code


class _Visitor(MutationVisitor):
    def __init__(self, path: Path, root: Path, module: cst.Module) -> None:
        super().__init__(OPERATORS, IgnoredCode(set(), set(), set()))
        self.path, self.name, self.module = path, path.relative_to(root).as_posix(), module
        self.scope: list[cst.FunctionDef | cst.ClassDef] = []
        self.lines = [(1, 0, 1)]
        self.texts: dict[cst.CSTNode, str] = {}
        self.made: list[Mutant] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        place = self.get_metadata(PositionProvider, node, None)
        self.lines.append((place.start.line, place.start.column, place.end.line) if place else self.lines[-1])
        if isinstance(node, cst.FunctionDef | cst.ClassDef):
            self.scope.append(node)
        return super().on_visit(node)

    def on_leave(self, original_node: cst.CSTNode) -> None:
        self.lines.pop()
        if self.scope and self.scope[-1] is original_node:
            self.scope.pop()

    def _skip_node_and_children(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.FunctionDef):
            return node.name.value in NEVER_MUTATE_FUNCTION_NAMES
        return super()._skip_node_and_children(node)

    def _function(self) -> list[cst.FunctionDef | cst.ClassDef]:
        """The classes and the outermost function around the node at hand; empty outside of functions."""
        for i, one in enumerate(self.scope):
            if isinstance(one, cst.FunctionDef):
                return self.scope[: i + 1]
        return []

    def _create_mutations(self, node: cst.CSTNode) -> None:
        before = len(self.mutations)
        super()._create_mutations(node)
        (first, column, last), outer = self.lines[-1], self._function()
        if not outer:
            return
        place = self.get_metadata(PositionProvider, outer[-1])
        inside = range(place.start.line, place.end.line + 1)
        text = self.texts.get(outer[-1]) or self.texts.setdefault(outer[-1], self.module.code_for_node(outer[-1]))
        for one in self.mutations[before:]:
            old, new = (self.module.code_for_node(side).strip() for side in (one.original_node, one.mutated_node))
            same = sum(other.first == first and other.change == f"{old} -> {new}" for other in self.made)
            told = f"{self.name} {text} {first - inside.start} {column} {old} {new} {same}"
            self.made.append(Mutant(self.path, ".".join(each.name.value for each in outer), first, last, inside, f"{old} -> {new}",
                                    hashlib.sha256(told.encode()).hexdigest()[:16], self.module,
                                    (one.original_node, one.mutated_node)))


def mutants_of(path: Path, root: Path) -> list[Mutant]:
    """All mutants of a file, in the order of the text."""
    wrapper = MetadataWrapper(cst.parse_module(path.read_text(encoding="utf-8")))
    visitor = _Visitor(path, root, wrapper.module)
    wrapper.visit(visitor)
    return visitor.made
