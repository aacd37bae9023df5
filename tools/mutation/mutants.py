"""Mutants of the package: made by mutmut's operators, a drawn share of them written into a copy of the checkout.

mutmut leaves out the body of every decorated function, because the copies that it makes of one would carry the
decorator. Here the copies carry none, so that features, which are decorated, and properties have mutants too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.file_mutation import (
    NEVER_MUTATE_FUNCTION_NAMES,
    Mutation,
    MutationVisitor,
    combine_mutations_to_source,
)
from mutmut.mutation.mutators import mutation_operators
from mutmut.mutation.pragma_handling import IgnoredCode

PLAIN_DECORATORS = ("staticmethod", "classmethod")


@dataclass(frozen=True)
class Mutant:
    """One small fault.

    Attributes:
        file: The mutated file, from the root of the checkout.
        line: Line of the change.
        before: Code that is changed.
        after: What takes its place.
        name: As mutmut's switch calls it; empty before it is written.
    """

    file: str
    line: int
    before: str
    after: str
    name: str = ""

    @property
    def function(self) -> str:
        """Name of the function as the record of the tests has it."""
        return self.name.partition("__mutmut_")[0]

    def __str__(self) -> str:
        return f"{self.file}:{self.line}  {self.before}  ->  {self.after}"


class Source:
    """A file and all its mutants.

    Args:
        path: The file, from the root of the checkout.
        root: The checkout.
    """

    def __init__(self, path: str, root: Path) -> None:
        self.path = path
        wrapper = MetadataWrapper(cst.parse_module((root / path).read_text(encoding="utf-8")))
        visitor = _Visitor(mutation_operators, IgnoredCode(set(), set(), set()))
        self.module = wrapper.visit(visitor)
        lines = wrapper.resolve(PositionProvider)
        self.mutations = [one for one in visitor.mutations if _in_function(one)]
        self.mutants = [_described(path, one, lines[one.original_node].start.line) for one in self.mutations]

    def written(self, chosen: Sequence[int], root: Path) -> list[tuple[int, Mutant]]:
        """Writes the file with a switch between the original and the chosen mutants.

        Args:
            chosen: Places in `mutants`, in order.
            root: Folder that gets the file.

        Returns:
            The place and the mutant with its name, each.
        """
        mutated = combine_mutations_to_source(self.module, [self.mutations[place] for place in chosen])
        bare = cst.parse_module(mutated.code).visit(_WithoutDecorators())
        (root / self.path).write_text(bare.code, encoding="utf-8")
        module = self.path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        by_function: dict[int, list[int]] = {}
        for place in chosen:
            by_function.setdefault(id(self.mutations[place].contained_by_top_level_function), []).append(place)
        order = [place for function in self._functions() for place in by_function.get(id(function), [])]
        names = [f"{module}.{name}" for name in mutated.mutant_names]
        return [(place, replace(self.mutants[place], name=name)) for place, name in zip(order, names, strict=True)]

    def _functions(self) -> Iterator[cst.CSTNode]:
        for statement in self.module.body:
            yield statement
            if isinstance(statement, cst.ClassDef):
                yield from statement.body.body


class _Visitor(MutationVisitor):  # type: ignore[misc]
    def _skip_node_and_children(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.FunctionDef) and node.decorators:
            return node.name.value in NEVER_MUTATE_FUNCTION_NAMES
        return bool(super()._skip_node_and_children(node))


class _WithoutDecorators(cst.CSTTransformer):  # type: ignore[misc]
    def leave_FunctionDef(self, original_node: cst.FunctionDef, updated_node: cst.FunctionDef) -> cst.FunctionDef:  # noqa: N802
        if "__mutmut_" not in updated_node.name.value:
            return updated_node
        plain = [one for one in updated_node.decorators if getattr(one.decorator, "value", "") in PLAIN_DECORATORS]
        return updated_node.with_changes(decorators=plain)


def _described(path: str, mutation: Mutation, line: int) -> Mutant:
    return Mutant(path, line, _code(mutation.original_node), _code(mutation.mutated_node))


def _in_function(mutation: Mutation) -> bool:
    return isinstance(mutation.contained_by_top_level_function, cst.FunctionDef)


def _code(node: cst.CSTNode) -> str:
    return " ".join(cst.Module([]).code_for_node(node).split())


def drawn(sizes: Mapping[str, int], number: int, seed: int) -> dict[str, list[int]]:
    """A sample of places, spread over the files by their sizes: every n-th mutant from a random start.

    Args:
        sizes: Mutants of each file.
        number: Places to draw.
        seed: Seed of the start.

    Returns:
        Places in each file, in order.

    Example:
        >>> drawn({"a.py": 6, "b.py": 4}, 5, seed=0)
        {'a.py': [1, 3, 5], 'b.py': [1, 3]}
    """
    ends, total = {}, 0
    for file, size in sizes.items():
        ends[file] = (total, total + size)
        total += size
    step = total / max(min(number, total), 1)
    start = Random(seed).random() * step
    places = [int(start + step * turn) for turn in range(min(number, total))]
    return {file: [place - low for place in places if low <= place < high] for file, (low, high) in ends.items()}
