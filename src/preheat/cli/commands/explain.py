"""`preheat explain`: how PostgreSQL runs a search."""

from __future__ import annotations

from rich.tree import Tree

from ...storage import Plan, PlanNode
from ..console import escape, out, run, show
from ..options import Collection
from .search import QueryArgument, SearchOptions

__all__ = ("explain",)


def explain(query: QueryArgument, options: SearchOptions, where: Collection) -> None:
    """Show how PostgreSQL runs a search: which index serves it, and the time of each step."""

    async def plan() -> Plan:
        async with options.retriever(where) as (retriever, arguments):
            return await retriever.explain(query, **arguments)

    show(run(where.backend, plan), _show_plan, json=where.json)


def _show_plan(plan: Plan) -> None:
    """The index that served, and a tree of the steps."""
    out.print(f"[bold]{escape(plan.summary)}[/]")
    root = Tree(_step(plan.tree))
    _grow(root, plan.tree)
    out.print(root)


def _grow(tree: Tree, node: PlanNode) -> None:
    for child in node.children:
        _grow(tree.add(_step(child)), child)


def _step(node: PlanNode) -> str:
    color = "dim" if not node.loops else "green" if node.index else "default"
    return f"[{color}]{escape(node.title)}[/] [dim]({escape(node.work)})[/]"
