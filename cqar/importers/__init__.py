"""Imports of real data: chains, venues, tickers, markets, token lists and snapshots, from files into a registry.

Repeatable: a second run changes nothing. A row that breaks a rule is refused with a reason, and the others go on. What is one
asset is never guessed from a symbol. Records are planned here and judged by the server, over gRPC like any other write.
"""

from cqar.importers._lookups import Answer, Lookups, Progress
from cqar.importers._plan import Importer, Options, Parsed, Plan, Refusal, Row, once, uid
from cqar.importers._run import KINDS, Report, run

__all__ = [
    "KINDS",
    "Answer",
    "Importer",
    "Lookups",
    "Options",
    "Parsed",
    "Plan",
    "Progress",
    "Refusal",
    "Report",
    "Row",
    "once",
    "run",
    "uid",
]
