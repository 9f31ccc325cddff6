"""Which candidate a name means (rule R2, names). The server and the client call the same function, so their answers cannot differ.

Never by order, age, market cap or "first hit": either a rule prefers exactly one candidate, or the caller is told all. Nor by
quality flags: if a flag could take a candidate out of the running, the flags of one day would make a name mean one asset, and
those of the next day another. A caller who resolves per order would then trade the namesake at the moment of the warning. So the
choice does not look at flags at all; the answer shows those of the asset that it names.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cqar.answers import Candidate, Collision, Resolution, Source
from cqar.errors import AmbiguousError, NotFoundError
from cqar.looks import looks_like
from cqar.model import AssetType, QualityFlag


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


def genuine(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Return the candidates that bear the name, without those whose symbol merely looks like it (rule R18, look-alikes)."""
    return [candidate for candidate in candidates if not candidate.look_alike]


def winner(candidates: Sequence[Candidate], symbol: str | None) -> Candidate | None:
    """Return the candidate that the rules prefer for a symbol as it was typed; None if there is none to prefer.

    Exact case comes before case-insensitive matches: `op` must never answer for `OP`, which is another token. Among what is left
    the only canonical one wins.
    """
    bearers = genuine(candidates)
    pool = [c for c in bearers if c.asset.symbol == symbol] or bearers
    if len(pool) > 1:
        pool = [c for c in pool if c.is_canonical]
    return pool[0] if len(pool) == 1 else None


def choose(
    candidates: Sequence[Candidate], symbol: str | None, position: int, source: Source, *asked: str
) -> Resolution:
    """Return the one candidate that the rules prefer, with the others as its collisions.

    `symbol` is what was typed, for the preference of exact case; None for keys that name at most one candidate. `asked` is the
    question: what, and on which chain, if one was named. Candidates that only look alike are told and never chosen.
    Raise NotFoundError, with the look-alikes if there are any, or AmbiguousError, with two candidates or more.
    """
    bearers = genuine(candidates)
    if not bearers:
        raise not_found(_question(asked), candidates)
    best = winner(candidates, symbol)
    if best is None:
        everyone = tuple([collision(c, bearers) for c in sorted(candidates, key=identity)])
        raise AmbiguousError(
            f"{_question(asked)}: {len(bearers)} candidates and none to prefer; ask by address, or take one of the candidates",
            candidates=everyone,
            asked=_question(asked),
            total=len(everyone),
        )
    others = tuple([collision(c, (best,)) for c in sorted(candidates, key=identity) if c is not best])
    return Resolution(best.asset, best.deployment, best.flags, others, position, source)


def not_found(question: str, look_alikes: Iterable[Candidate] = ()) -> NotFoundError:
    """Return the error for a name that no live asset bears, with the assets that merely look like it."""
    told = tuple([collision(candidate) for candidate in sorted(look_alikes, key=identity)])
    names = ", ".join([f"{each.symbol!r} ({each.name}, {each.asset_id})" for each in told[:3]])
    warning = f"; what looks like it is another symbol: {names}" if told else ""
    return NotFoundError(f"{question}: no such live asset{warning}", asked=question, look_alikes=told)


def _question(asked: Sequence[str]) -> str:
    return " on ".join([part for part in asked if part])
