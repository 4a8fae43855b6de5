"""Claims that tests make in this process, as of processes that may end in the middle of their work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from grafiqs.run.claims import Claims


def die(claims: Claims) -> None:
    """End as a process that is killed: what it held grows no more, and is not given back."""
    claims._ended.set()
    if claims._thread is not None:
        claims._thread.join()
    for claim in claims._held.values():
        claim.file.close()


@contextmanager
def dying() -> Iterator[None]:
    """Whatever claims are made inside the block die at the end of it, or they would go on beating."""
    made: list[Claims] = []
    begin = Claims.__init__

    def recorded(claims: Claims, *arguments: Any, **named: Any) -> None:
        begin(claims, *arguments, **named)
        made.append(claims)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Claims, "__init__", recorded)
        yield
        for claims in made:
            die(claims)
