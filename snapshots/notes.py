# ruff: noqa: INP001
"""What is said about the catalogue's assets: their identifiers, groups and quality flags.

An identifier goes to the home that `curated/identifiers.csv` names, or nowhere if that is empty. One that the file does not name
goes to the only asset that a list puts it on; if that is several, to the only curated one among them. It is left out if that asset
is a mere IBC voucher and another asset bears the symbol: the list means the coin (it put `fetch-ai` on a voucher of FET). A
warning about a token that is in no list is left out too: without its decimals it cannot be a deployment.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal

from assets import Assets, replaced
from tables import CREATED, CURATED, Report, read, uid

from cqar import model
from cqar.errors import InvalidError
from cqar.model import FlagType, Severity, fold
from cqar.rules.records import normal

BALANCES = {"0": "rebasing", "1": "interest-bearing"}  # the two classes of the Arbitrum bridge's warning list


class Notes:
    """Builds identifiers, groups, members and flags."""

    def __init__(self, assets: Assets, report: Report) -> None:
        self.assets, self.report = assets, report
        self.identifiers: list[model.Identifier] = []
        self.groups: dict[str, model.Group] = {}
        self.members: dict[tuple[str, str], model.GroupMember] = {}
        self.flags: list[model.QualityFlag] = []
        self._identifiers()
        self._groups()
        self._flags()

    def _identifiers(self) -> None:
        assets = self.assets
        claims: dict[tuple[str, str], set[str]] = defaultdict(set)
        strength: dict[tuple[str, str, str], int] = defaultdict(int)
        source = {}
        for row in read("sources/identifiers.csv"):
            try:
                key = assets.key(assets.place(row["chain"], row["address"]))
            except InvalidError as error:
                self.report.skip(f"identifier: address refused ({error.reason})")
                continue
            if key in assets.assets:
                name = row["id_source"], row["external_id"]
                claims[name].add(key)
                strength[*name, key] += 1
                source[name] = row["source"]
        primary: dict[tuple[str, str], tuple[int, str]] = {}
        kept = self._owners(claims)
        for name, key in kept.items():
            best = strength[*name, key], name[1]
            if (primary.get((name[0], key)) or (0, "")) < best:
                primary[name[0], key] = best
        for name, key in kept.items():
            identifier = model.Identifier(
                identifier_id=uid("identifier", *name),
                asset_id=assets.id(key),
                source=name[0],
                external_id=name[1],
                is_primary=primary[name[0], key][1] == name[1],
                provenance=assets.source[source[name]],
                created_at=CREATED,
                updated_at=CREATED,
            )
            self.identifiers.append(normal(identifier))

    def _owners(self, claims: dict[tuple[str, str], set[str]]) -> dict[tuple[str, str], str]:
        """Return whose each identifier is; one that is nobody's is counted and left out."""
        assets, vouchers = self.assets, self.assets.vouchers()
        held = {fold(asset.symbol) for key, asset in assets.assets.items() if key not in vouchers}
        homes = self._homes(claims.keys())
        owners = {}
        for name, claimants in sorted(claims.items()):
            keys = claimants
            if len(keys) > 1:  # only a curated one may have it
                keys = {key for key in claimants if not key.startswith("deployment:")}
            if name in homes:
                keys = {homes[name]} - {""}
            elif any(key in vouchers and fold(assets.assets[key].symbol) in held for key in keys):
                self.report.skip("identifier: it is on a voucher of a coin that is held, see curated/identifiers.csv")
                continue
            if len(keys) != 1:
                self.report.skip("identifier: several assets claim it, or its home is not in the catalogue")
                continue
            (owners[name],) = keys
        return owners

    def _homes(self, claimed: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
        """Return the curated home of each identifier; "" if it has none in the catalogue."""
        homes = {}
        for row in read("curated/identifiers.csv"):
            name = row["id_source"], row["external_id"]
            homes[name] = row["home"]
            if name in homes.keys() - claimed:
                self.report.problem(f"curated/identifiers.csv: no list has {name[0]} {name[1]}")
            if row["home"]:
                self.assets.known(row["home"], "curated/identifiers.csv")
        return homes

    def _groups(self) -> None:
        assets = self.assets
        for row in read("curated/groups.csv"):
            symbol, group_id = row["group"], uid("group", row["group"].casefold())
            group = model.Group(
                group_id=group_id, canonical_symbol=symbol, name=row["name"],
                provenance=f"{CURATED}groups.csv", created_at=CREATED, updated_at=CREATED,
            )  # fmt: skip
            if self.groups.setdefault(symbol.casefold(), normal(group)).canonical_symbol != symbol:
                self.report.problem(f"curated/groups.csv: {symbol} and another group differ only in case")
            if not assets.known(row["asset"], "curated/groups.csv"):
                continue
            member = model.GroupMember(
                group_id=group_id, asset_id=assets.id(row["asset"]), is_canonical=row["canonical"] == "yes",
                weight=Decimal(row["weight"]), provenance=f"{CURATED}groups.csv", created_at=CREATED, updated_at=CREATED,
            )  # fmt: skip
            if (group_id, member.asset_id) in self.members:
                self.report.problem(f"curated/groups.csv: {row['asset']} twice in {symbol}")
            self.members[group_id, member.asset_id] = normal(member)

    def _flags(self) -> None:
        assets = self.assets
        for row in read("curated/flags.csv"):
            if assets.known(row["asset"], "curated/flags.csv"):
                self._flag(
                    row["asset"],
                    kind=row["type"],
                    severity=row["severity"],
                    source="catalogue",
                    reason=row["reason"],
                    provenance=f"{CURATED}flags.csv",
                )
        for row in read("sources/flags.csv"):
            key = assets.key(assets.place(row["chain"], row["address"]))
            if key not in assets.assets:
                self.report.skip(f"flag of {row['source']}: the token is in no list, so its decimals are unknown")
            elif row["source"] == "jupiter":
                self._flag(
                    key,
                    kind="IMPOSTOR",
                    severity="MEDIUM",
                    source="jupiter",
                    reason=f"banned: {row['reason']}",
                    provenance=assets.source["jupiter"],
                )
            else:
                asset = assets.assets[key]
                news = (*asset.metadata, ("balance", BALANCES[row["reason"]]))
                assets.assets[key] = replaced(asset, metadata=tuple(sorted(news)))

    def _flag(self, key: str, *, kind: str, severity: str, source: str, reason: str, provenance: str) -> None:
        flag = model.QualityFlag(
            flag_id=uid("flag", kind, source, self.assets.id(key)),
            asset_id=self.assets.id(key),
            flag_type=FlagType[kind],
            severity=Severity[severity],
            source=source,
            reason=reason,
            raised_by="catalogue",
            raised_at=CREATED,
            provenance=provenance,
            created_at=CREATED,
            updated_at=CREATED,
        )
        self.flags.append(normal(flag))
