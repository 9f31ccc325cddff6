# ruff: noqa: INP001
"""Chains, assets, deployments and relationships of the catalogue, from its CSV files.

The one question here: which deployments are one asset? A curated file says so; or a trace of cosmos/chain-registry does
(an IBC voucher, or additional mintage by the issuer); otherwise a token is an asset of its own. Equal symbols never do.

A place is (chain, address); the address of a native asset is "". A chain outside the catalogue is written `~name`: a
voucher's home may be there.
"""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import TypeVar

import msgspec
from tables import CREATED, CURATED, Report, Row, provenance, read, uid

from cqar import model
from cqar.errors import InvalidError
from cqar.model import AssetType, RelationshipType
from cqar.rules.addresses import normalise_address
from cqar.rules.records import normal

Place = tuple[str, str]
R = TypeVar("R", bound=model.Record)

PRIORITY = ("aave", "metamask", "superfluid", "jupiter", "cosmos")  # whose symbol and name a token takes
TYPE_OF_LINK = {
    "WRAPS": AssetType.WRAPPED,
    "BRIDGES": AssetType.BRIDGED,
    "STAKES": AssetType.STAKED,
    "SYNTHETIC": AssetType.SYNTHETIC,
}
LP_SYMBOLS = frozenset({"UNI-V2", "BPT", "G-UNI"})


class Assets:
    """Builds them in order; a `key` names an asset: `usdc`, or `deployment:<chain>/<address>` if nobody curated it."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.source = provenance()
        self.chains: dict[str, model.Chain] = {}
        self.assets: dict[str, model.Asset] = {}
        self.deployments: dict[Place, model.Deployment] = {}
        self.relationships: dict[tuple[str, str, str], model.Relationship] = {}
        self.key_at: dict[Place, str] = {}  # curated places
        self.same: dict[Place, Place] = {}  # a token that is its parent on another chain
        self.corrections = {
            (r["what"], r["source"], r["chain"], r["address"].lower()) for r in read("curated/corrections.csv")
        }
        self._chains()
        self._curated()
        links = self._links()
        self._tokens(links)
        self._relationships(links)
        self._native_ids()

    # --- small helpers -------------------------------------------------------------------------------------------------

    def id(self, key: str) -> str:
        """Give the UUID of an asset."""
        return uid(key) if key.startswith("deployment:") else uid("asset", key)

    def place(self, chain: str, address: str) -> Place:
        """Give a place in normal form; InvalidError if the address breaks its chain's rule."""
        if chain not in self.chains or not address:
            return chain, address
        form = normalise_address(self.chains[chain], address)
        return chain, "" if form == model.NATIVE else form

    def key(self, place: Place) -> str:
        """Name the asset that is at a place."""
        seen = set()
        while place not in self.key_at and place in self.same and place not in seen:
            seen.add(place)
            place = self.same[place]
        return self.key_at.get(place, f"deployment:{place[0]}/{place[1] or model.NATIVE}")

    def vouchers(self) -> set[str]:
        """Return the assets that are mere IBC vouchers: each of their places is the trace of a coin of another chain."""
        at: dict[str, set[bool]] = defaultdict(set)
        for place, deployment in self.deployments.items():
            at[self.key(place)].add((deployment.contract_address or "").startswith("ibc/"))
        return {key for key, found in at.items() if found == {True}}

    def known(self, key: str, file: str) -> bool:
        """Whether an asset exists; if not, `file` has a problem."""
        if key not in self.assets:
            self.report.problem(f"{file}: no asset {key}")
        return key in self.assets

    def _corrected(self, what: str, row: Row) -> bool:
        return (what, row["source"], row["chain"], row["address"].lower()) in self.corrections

    def _deploy(self, key: str, place: Place, decimals: int, provenance: str | None, *, canonical: bool) -> None:
        chain, address = place
        record = model.Deployment(
            deployment_id=uid("at", chain, address or model.NATIVE),
            asset_id=self.id(key),
            chain_id=chain,
            contract_address=address or None,
            decimals=decimals,
            is_native=not address,
            is_canonical=canonical,
            provenance=provenance,
            created_at=CREATED,
            updated_at=CREATED,
        )
        self.deployments[place] = normal(record, self.chains[chain])

    # --- the steps, in order -------------------------------------------------------------------------------------------

    def _chains(self) -> None:
        for row in read("sources/chains.csv"):
            chain = model.Chain(
                chain_id=row["chain_id"],
                name=row["name"],
                namespace=row["namespace"],
                caip2=row["caip2"] or None,
                network_id=int(row["network_id"]) if row["network_id"] else None,
                aliases=tuple(row["aliases"].split()),
                native_symbol=row["native_symbol"] or None,
                native_decimals=int(row["native_decimals"]) if row["native_decimals"] else None,
                explorer_url=row["explorer"] or None,
                slip44=int(row["slip44"]) if row["slip44"] else None,
                is_testnet=row["is_testnet"] == "true",
                provenance=" ".join([self.source[code] for code in row["source"].split()]),
                created_at=CREATED,
                updated_at=CREATED,
            )
            self.chains[chain.chain_id] = normal(chain)

    def _curated(self) -> None:
        for row in read("curated/assets.csv"):
            if row["asset"] in self.assets:
                self.report.problem(f"curated/assets.csv: {row['asset']} twice")
            self._asset(
                row["asset"],
                row["symbol"],
                row["name"],
                kind=AssetType[row["type"]],
                provenance=f"{CURATED}assets.csv",
                row=row,
            )
        natives = {row["chain"]: row["asset"] for row in read("curated/natives.csv")}
        for name in sorted(natives.keys() - self.chains.keys()):
            self.report.problem(f"curated/natives.csv: no chain {name}")
        for row in read("sources/chains.csv"):
            chain = self.chains[row["chain_id"]]
            key = natives.get(chain.chain_id, f"deployment:{chain.chain_id}/{model.NATIVE}")
            if not key:
                self.report.skip("native asset: none recorded, see curated/natives.csv")
                continue
            if chain.native_decimals is None:
                self.report.problem(f"sources/chains.csv: {chain.chain_id} has no decimals for {key}")
                continue
            if key.startswith("deployment:"):
                self._asset(
                    key, row["native_symbol"], row["native_name"], kind=AssetType.NATIVE, provenance=chain.provenance
                )
            if self.known(key, "curated/natives.csv"):
                self.key_at[chain.chain_id, ""] = key
                self._deploy(key, (chain.chain_id, ""), chain.native_decimals, chain.provenance, canonical=True)

    def _asset(
        self, key: str, symbol: str, name: str, *, kind: AssetType, provenance: str | None, row: Row | None = None
    ) -> None:
        asset = model.Asset(
            asset_id=self.id(key),
            symbol=symbol,
            name=name,
            asset_type=kind,
            category=row["category"] or None if row else None,
            website=row["website"] or None if row else None,
            metadata=(("catalogue_key", key),) if row else (),
            provenance=provenance,
            created_at=CREATED,
            updated_at=CREATED,
        )
        self.assets[key] = normal(asset)

    def _links(self) -> dict[Place, tuple[Row, Place]]:
        links = {}
        for row in read("sources/links.csv"):
            if self._corrected("link", row):
                self.report.skip("link: wrong in its source, see curated/corrections.csv")
                continue
            try:
                child = self.place(row["chain"], row["address"])
                parent = self.place(row["parent_chain"], row["parent_address"])
            except InvalidError as error:
                self.report.skip(f"link: address refused ({error.reason})")
                continue
            if row["relation"] == "SAME" and child != parent:
                self.same[child] = parent
            elif child not in links:
                links[child] = row, parent
        return links

    def _tokens(self, links: dict[Place, tuple[Row, Place]]) -> None:
        found: dict[Place, list[Row]] = defaultdict(list)
        for row in sorted(read("sources/tokens.csv"), key=lambda row: PRIORITY.index(row["source"])):
            if self._corrected("row", row):
                self.report.skip("token: wrong in its source, see curated/corrections.csv")
                continue
            try:
                place = self.place(row["chain"], row["address"])
            except InvalidError as error:
                self.report.skip(f"token: address refused ({error.reason})")
                continue
            if not place[1]:
                self.report.skip("token: stands for the native asset of its chain")
            elif found[place] and row["decimals"] != found[place][0]["decimals"]:
                self.report.problem(f"sources/tokens.csv: {place}: decimals differ: add it to curated/corrections.csv")
            else:
                found[place].append(row)
        canonical = self._curated_deployments(set(found))
        for place, rows in found.items():
            key, row = self.key(place), rows[0]
            if key not in self.assets:
                home = place[0] + "/" + place[1] == key.removeprefix("deployment:")
                self._token(key, row if home else found.get(self._home(place), rows)[0], links.get(place))
            names = " ".join(dict.fromkeys([self.source[row["source"]] for row in rows]))
            self._deploy(key, place, int(row["decimals"]), names, canonical=canonical.get(place, False))
        self._vouch()

    def _vouch(self) -> None:
        """Prefer a voucher of a curated asset to its namesakes, where the curated files prefer none and it is the only one."""
        key_of = {self.id(key): key for key in self.assets}
        candidates: dict[tuple[str, str], list[Place]] = defaultdict(list)
        for place, deployment in self.deployments.items():
            key = key_of[deployment.asset_id]
            if not key.startswith("deployment:"):
                candidates[place[0], model.fold(self.assets[key].symbol)].append(place)
        for places in candidates.values():
            if len(places) == 1 and not self.deployments[places[0]].is_canonical and places[0] not in self.key_at:
                self.deployments[places[0]] = replaced(self.deployments[places[0]], is_canonical=True)

    def _home(self, place: Place) -> Place:
        while place in self.same:
            place = self.same[place]
        return place

    def _token(self, key: str, row: Row, link: tuple[Row, Place] | None) -> None:
        kind = TYPE_OF_LINK.get(link[0]["relation"], AssetType.TOKEN) if link else AssetType.TOKEN
        if row["symbol"] in LP_SYMBOLS:
            kind = AssetType.LP_TOKEN
        self._asset(key, row["symbol"], row["name"], kind=kind, provenance=self.source[row["source"]])

    def _curated_deployments(self, known: set[Place]) -> dict[Place, bool]:
        canonical = {}
        for row in read("curated/deployments.csv"):
            text = f"curated/deployments.csv: {row['asset']} on {row['chain']}"
            try:
                place = self.place(row["chain"], row["address"])
            except InvalidError as error:
                self.report.problem(f"{text}: {error.message}")
                continue
            if place not in known:
                self.report.problem(f"{text}: {row['address']} is in no source")
            elif place in self.key_at:
                self.report.problem(f"{text}: {row['address']} twice")
            elif self.known(row["asset"], "curated/deployments.csv"):
                self.key_at[place] = row["asset"]
                canonical[place] = row["canonical"] == "yes"
        return canonical

    def _relationships(self, links: dict[Place, tuple[Row, Place]]) -> None:
        decided = set()
        for row in read("curated/relationships.csv"):
            ends = [self.known(row[end], "curated/relationships.csv") for end in ("child", "parent")]
            if all(ends):
                decided.add(row["child"])
                rate = Decimal(1) if row["one_to_one"] == "yes" else None
                self._edge((row["parent"], row["child"]), row, f"{CURATED}relationships.csv", rate)
        for place, (row, parent) in sorted(links.items()):
            child_key, parent_key = self.key(place), self.key(parent)
            if child_key == parent_key or child_key in decided:
                self.report.skip("link: decided in curated/ (one asset, or another edge)")
            elif child_key not in self.assets or parent_key not in self.assets:
                self.report.skip("link: an end is not in the catalogue")
            else:  # a migration's row is the legacy form
                ends_of = (child_key, parent_key) if row["relation"] == "MIGRATION" else (parent_key, child_key)
                self._edge(ends_of, row, self.source[row["source"]])

    def _edge(self, ends: tuple[str, str], row: Row, provenance: str, rate: Decimal | None = None) -> None:
        (parent, child), kind = ends, row["relation"]
        edge = model.Relationship(
            relationship_id=uid("edge", kind, self.id(parent), self.id(child)),
            parent_asset_id=self.id(parent),
            child_asset_id=self.id(child),
            relationship_type=RelationshipType[kind],
            protocol=row["protocol"] or None,
            conversion_rate=rate,
            rate_as_of=CREATED if rate else None,
            rate_source="the wrapping contract swaps one for one" if rate else None,
            provenance=provenance,
            created_at=CREATED,
            updated_at=CREATED,
        )
        self.relationships.setdefault((kind, edge.parent_asset_id, edge.child_asset_id), normal(edge))

    def _native_ids(self) -> None:
        for name, chain in self.chains.items():
            native = self.deployments.get((name, ""))
            if native:
                self.chains[name] = replaced(chain, native_asset_id=native.asset_id)


def replaced(record: R, **values: object) -> R:
    """Give the record with some fields changed."""
    return msgspec.structs.replace(record, **values)
