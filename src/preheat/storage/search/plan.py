"""The plan of a search, from the output of `EXPLAIN (ANALYZE, FORMAT JSON)`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


def explain(sql: str) -> str:
    """A statement that runs another one, with the same parameters, and returns its plan."""
    return f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}"


@dataclass(frozen=True, slots=True)
class PlanNode:
    """One step of a plan."""

    kind: str
    """The kind of the step, such as `"Index Scan"`."""
    label: str
    """The part of the statement that begins with this step, such as `"CTE near"`; empty for most steps."""
    relation: str
    """The table or the part of the statement that the step reads; empty if it reads the rows of its children."""
    index: str
    """The index that the step reads; empty if it reads none."""
    is_ordered: bool
    """Whether the index yields rows in the order of their distance."""
    rows: int
    """How many rows the step yielded in all of its runs."""
    loops: int
    """How often the step ran; 0 if it was not needed."""
    seconds: float
    """How long all of its runs took, in seconds, with those of its children."""
    children: tuple[PlanNode, ...]
    """The steps that yield the rows it reads."""

    @property
    def title(self) -> str:
        """The step in one line."""
        label = f"{self.label}: " if self.label else ""
        index = f" by {self.index}" if self.index else ""
        return f"{label}{self.kind}{index}{f' on {self.relation}' if self.relation else ''}"

    @property
    def work(self) -> str:
        """Its rows and its time, in one line."""
        if not self.loops:
            return "not run"
        rows = "1 row" if self.rows == 1 else f"{self.rows:,} rows"
        return f"{rows}, {1000 * self.seconds:.2f} ms" + (f", {self.loops:,} times" if self.loops > 1 else "")

    def walk(self) -> Iterator[PlanNode]:
        """This step and all steps below it, from top to bottom."""
        yield self
        for child in self.children:
            yield from child.walk()

    def as_dict(self) -> dict[str, Any]:
        """The step for JSON."""
        return {
            "kind": self.kind,
            "label": self.label,
            "relation": self.relation,
            "index": self.index,
            "rows": self.rows,
            "loops": self.loops,
            "seconds": self.seconds,
            "children": [child.as_dict() for child in self.children],
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """How PostgreSQL ran a search. `str(plan)` is a summary, and one line for each step."""

    statement: str
    """The statement, with placeholders."""
    planning_seconds: float
    """How long the server took to plan the statement."""
    execution_seconds: float
    """How long the server took to run it; a little more than without `EXPLAIN`."""
    tree: PlanNode
    """The last step, with all steps below it."""
    indexes: tuple[str, ...]
    """The names of the indexes that were used, in the order of the plan."""
    index: str | None
    """The index that yielded the vectors in the order of their distance; None if the server sorted the rows of the
    table, or those that another index had found."""

    @property
    def seconds(self) -> float:
        """How long planning and running took together."""
        return self.planning_seconds + self.execution_seconds

    @property
    def summary(self) -> str:
        """The index of the vectors, the other indexes, and the time, in one line."""
        if self.index is not None:
            served = f"index {self.index} served the vectors"
        else:
            served = "no index served the vectors, they were sorted"
        others = [name for name in self.indexes if name != self.index]
        if others:
            served += f"; others that served: {', '.join(others)}"
        planned, run = 1000 * self.planning_seconds, 1000 * self.execution_seconds
        return f"{served}; planned in {planned:.2f} ms, run in {run:.2f} ms"

    def __str__(self) -> str:
        return "\n".join([self.summary, *_lines(self.tree, 0)])

    def as_dict(self) -> dict[str, Any]:
        """The plan for logs and JSON."""
        return {
            "index": self.index,
            "indexes": list(self.indexes),
            "planning_seconds": self.planning_seconds,
            "execution_seconds": self.execution_seconds,
            "statement": self.statement,
            "tree": self.tree.as_dict(),
        }


def read_plan(statement: str, text: str, table: str) -> Plan:
    """The plan of a statement from the server's JSON. Only an index of this table counts as one of the chunks."""
    told: dict[str, Any] = json.loads(text)[0]
    tree = _node(told["Plan"])
    served = [node for node in tree.walk() if node.index and node.loops and node.relation == table]
    return Plan(
        statement,
        told["Planning Time"] / 1000,
        told["Execution Time"] / 1000,
        tree,
        tuple(dict.fromkeys(node.index for node in served)),
        next((node.index for node in served if node.is_ordered), None),
    )


def _node(told: Mapping[str, Any], relation: str = "") -> PlanNode:
    loops = int(told["Actual Loops"])
    kind = told["Node Type"]
    own = str(told.get("Relation Name") or told.get("CTE Name") or (relation if kind.startswith("Bitmap") else ""))
    return PlanNode(
        kind,
        told.get("Subplan Name", ""),
        own,
        told.get("Index Name", ""),
        "Order By" in told,
        round(told["Actual Rows"] * loops),
        loops,
        told["Actual Total Time"] * loops / 1000,
        tuple(_node(child, own) for child in told.get("Plans", ())),
    )


def _lines(node: PlanNode, depth: int) -> Iterator[str]:
    yield f"{'  ' * depth}{node.title} ({node.work})"
    for child in node.children:
        yield from _lines(child, depth + 1)
