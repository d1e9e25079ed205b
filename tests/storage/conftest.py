from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(params=["asyncio", "trio"], scope="module")
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """What a statement does is up to the server: two backends will do. Modules about tasks have them all."""
    return request.param
