"""What merely looks alike: symbols and names compared by the shapes of their letters (R18, UTS #39).

Part of the core beside `model`, because look-alikes are a look-up like any other: assets are posted under their skeletons.
"""

from __future__ import annotations

import functools
import unicodedata

# Default_Ignorable_Code_Point (DerivedCoreProperties.txt): characters that show nothing, which a skeleton leaves out.
_IGNORABLE = (
    (0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F),
    (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF),
)  # fmt: skip


@functools.lru_cache(maxsize=4096)
def skeleton(text: str) -> str:
    """Give the UTS #39 skeleton: two texts with equal skeletons look alike ("UЅDТ" in Cyrillic gives "USDT").

    It is the standard's internalSkeleton: NFD, ignorable characters removed, each character replaced by its prototype,
    NFD. The bidirectional step is left out: what reorders a line is refused by `rules.text.check_symbol`. A skeleton is for
    comparing, not for showing: "m" becomes "rn", "0" becomes "O".
    """
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", text).translate(_prototypes()))


def skeletons(text: str) -> frozenset[str]:
    """Give the keys under which look-alikes of a text are found: texts that look alike share at least one."""
    return frozenset({skeleton(text), skeleton(text.upper()), skeleton(text.casefold())})


def looks_like(a: str, b: str) -> bool:
    """Whether two texts differ by more than case and yet look alike (R18).

    UTS #39 compares as written. Symbols are matched without case here, so the skeletons are compared in upper and in
    lower case too: "UsDТ" is found only in upper case (a Cyrillic т has no Latin twin), "dаi" beside "DAI" only in
    lower case. The case is mapped before the skeleton is made, never after: "DAI" has the skeleton "DAl", and would
    look like "DAL".
    """
    if a.casefold() == b.casefold():
        return False
    return (
        skeleton(a) == skeleton(b)
        or skeleton(a.upper()) == skeleton(b.upper())
        or skeleton(a.casefold()) == skeleton(b.casefold())
    )


@functools.cache
def _prototypes() -> dict[int, str]:
    from cqar import _confusables  # noqa: PLC0415 - 50 kB that most processes never need

    table: dict[int, str] = {}
    for entry in _confusables.TABLE.split(";"):
        prototype, _, sources = entry.partition("<")
        target = "".join([chr(int(point, 16)) for point in prototype.split()])
        for run in sources.split():
            first, _, last = run.partition("-")
            table.update(dict.fromkeys(range(int(first, 16), int(last or first, 16) + 1), target))
    for start, end in _IGNORABLE:
        table.update(dict.fromkeys(range(start, end + 1), ""))
    return table
