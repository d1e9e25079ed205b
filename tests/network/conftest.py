from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.network.ends import Ends


@pytest.fixture(scope="module")
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    made.close()
