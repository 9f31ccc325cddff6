"""How an attack names itself."""

from __future__ import annotations

import pytest


def attack(number: str, *, by: str, promise: str) -> pytest.MarkDecorator:
    """Return the mark of an attack: its number, who carries it out, and the promise that it tries to break."""
    return pytest.mark.attack(number, by=by, promise=promise)
