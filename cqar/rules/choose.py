"""Which candidate a name means (R2). The server and the client call the same function, so their answers cannot differ.

Never by order, age, market cap or "first hit": either a rule prefers exactly one candidate, or the caller is told all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cqar.answers import Candidate, Collision, Resolution, Source
from cqar.errors import AmbiguousError, NotFoundError
from cqar.looks import looks_like
from cqar.model import AssetType, QualityFlag, Severity

UNHEALTHY = Severity.HIGH  # from this severity on a candidate cannot make a healthy one ambiguous (R2)


def worst_first(flags: Iterable[QualityFlag]) -> tuple[QualityFlag, ...]:
    """Keep the active flags, sorted by severity, then by type, source and id so that the order never depends on storage."""
    active = [flag for flag in flags if flag.is_active]
    active.sort(key=lambda flag: (-flag.severity, flag.flag_type, flag.source, flag.flag_id))
    return tuple(active)


def collision(candidate: Candidate, beside: Sequence[Candidate] = ()) -> Collision:
    """Describe a candidate that was not chosen, beside the one that was, or beside all if none was."""
    asset, deployment = candidate.asset, candidate.deployment
    return Collision(
        asset_id=asset.asset_id,
        symbol=asset.symbol,
        name=asset.name,
        asset_type=asset.asset_type,
        chain_id=deployment.chain_id if deployment else None,
        contract_address=deployment.contract_address if deployment else None,
        deployment_id=deployment.deployment_id if deployment else None,
        is_canonical=candidate.is_canonical,
        flags=tuple([(flag.flag_type, flag.severity) for flag in candidate.flags]),
        look_alike=candidate.look_alike or any(mistakable(candidate, other) for other in beside),
    )


def mistakable(candidate: Candidate, other: Candidate) -> bool:
    """Tell whether a candidate may be taken for another one that has the same symbol (R18).

    Its name looks like the other's and is not, or it took the symbol of a native asset.
    """
    return looks_like(candidate.asset.name, other.asset.name) or (is_native(other) and not is_native(candidate))


def is_native(candidate: Candidate) -> bool:
    """Tell whether a candidate pays the fees of a chain: of the one asked for, if there was one."""
    if candidate.deployment is not None:
        return candidate.deployment.is_native
    return candidate.asset.asset_type is AssetType.NATIVE


def identity(candidate: Candidate) -> tuple[str, str]:
    """Give a total order of candidates: a list of them never depends on storage."""
    deployment = candidate.deployment
    return candidate.asset.asset_id, deployment.deployment_id if deployment else ""


def preferred(candidates: Sequence[Candidate], symbol: str | None) -> Candidate | None:
    """Apply the preferences of R2 in their order; None if more than one candidate is left.

    Exact case comes before health: a healthy `op` must never answer for a flagged `OP`, which is another token.
    """
    pool = [c for c in candidates if c.asset.symbol == symbol] or candidates
    pool = [c for c in pool if not c.flags or c.flags[0].severity < UNHEALTHY] or pool
    if len(pool) > 1:
        pool = [c for c in pool if c.is_canonical]
    return pool[0] if len(pool) == 1 else None


def winner(candidates: Sequence[Candidate], symbol: str | None) -> Candidate | None:
    """Give the candidate that the rules prefer for a symbol as it was typed; None if there is none to prefer."""
    if len(candidates) == 1:
        return candidates[0]
    return preferred([c for c in candidates if not c.look_alike], symbol)


def choose(
    candidates: Sequence[Candidate], symbol: str | None, position: int, source: Source, *asked: str
) -> Resolution:
    """Give the one candidate that the rules prefer, with the others as its collisions.

    `symbol` is what was typed, for the preference of exact case; None for keys that name at most one candidate. `asked` is the
    question: what, and on which chain, if one was named. Candidates that only look alike are told and never chosen (R18).
    Raises NotFoundError and AmbiguousError.
    """
    if not candidates:
        raise NotFoundError(f"{_question(asked)}: no such live asset", asked=_question(asked))
    if len(candidates) == 1:
        chosen = candidates[0]
        return Resolution(chosen.asset, chosen.deployment, chosen.flags, (), position, source)
    best = winner(candidates, symbol)
    if best is None:
        genuine = [c for c in candidates if not c.look_alike]
        everyone = tuple([collision(c, genuine) for c in sorted(candidates, key=identity)])
        raise AmbiguousError(
            f"{_question(asked)}: {len(genuine)} candidates and none to prefer; ask by address, or take one of the candidates",
            candidates=everyone,
            asked=_question(asked),
            total=len(everyone),
        )
    others = tuple([collision(c, (best,)) for c in sorted(candidates, key=identity) if c is not best])
    return Resolution(best.asset, best.deployment, best.flags, others, position, source)


def _question(asked: Sequence[str]) -> str:
    return " on ".join([part for part in asked if part])
