"""Every operation on the registry: records in, records out, one method per intent.

A method opens the transaction or the view, calls the pure rules, and puts records. The methods are grouped by topic in the
files beside; those that write take a `Call` first. No gRPC in here, and no SQL.
"""

from cqar.patches import AssetPatch
from cqar.server.registry._base import Answer, Call, Done, Page, PageRequest
from cqar.server.registry.assets import AssetAnswer, Assets
from cqar.server.registry.flags import Flags, GateKey
from cqar.server.registry.groups import Groups
from cqar.server.registry.importers import Merge
from cqar.server.registry.parts import Parts
from cqar.server.registry.places import Places
from cqar.server.registry.relationships import Direction, Relationships, VariantPage
from cqar.server.registry.resolve import AddressKey, Outcomes, ResolveKey, Resolver, SourceKey, SymbolKey, TickerKey
from cqar.server.registry.roads import Guarded
from cqar.server.registry.tickers import ListingPage, Meaning, Tickers
from cqar.server.registry.upsert import Outcome, UpsertAnswer, UpsertResult, Upserts


class Registry(Guarded, Assets, Parts, Relationships, Groups, Flags, Places, Tickers, Resolver, Upserts):
    """The registry over one store. Thread-safe; all methods block, and raise UnavailableError if the database fails."""


__all__ = [
    "AddressKey",
    "Answer",
    "AssetAnswer",
    "AssetPatch",
    "Call",
    "Direction",
    "Done",
    "GateKey",
    "ListingPage",
    "Meaning",
    "Merge",
    "Outcome",
    "Outcomes",
    "Page",
    "PageRequest",
    "Registry",
    "ResolveKey",
    "SourceKey",
    "SymbolKey",
    "TickerKey",
    "UpsertAnswer",
    "UpsertResult",
    "VariantPage",
]
