"""R2 and R11: which candidate a name means, and what the gate says. One test a ruling."""

from __future__ import annotations

import contextlib
import itertools
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqar.answers import Candidate, Decision, Resolution
from cqar.errors import AmbiguousError, AssetBlockedError, NotFoundError, VerdictUnknownError
from cqar.model import Asset, AssetType, Deployment, FlagType, QualityFlag, Severity
from cqar.rules.choose import choose, worst_first
from cqar.rules.gate import judge, require
from tests.worlds import NOW


def flag(severity: Severity, *, asset_id: str = "a", flag_id: str = "1", cleared: bool = False) -> QualityFlag:
    """Make a flag."""
    return QualityFlag(
        flag_id=flag_id,
        asset_id=asset_id,
        flag_type=FlagType.SCAM,
        severity=severity,
        source="desk",
        reason="because",
        cleared_at=NOW if cleared else None,
    )


def candidate(
    asset_id: str, symbol: str, *, canonical: bool = False, severity: Severity | None = None, chain: str = "optimism"
) -> Candidate:
    """Make a candidate."""
    asset = Asset(asset_id=asset_id, symbol=symbol, name=f"name of {asset_id}", asset_type=AssetType.TOKEN)
    deployment = Deployment(
        deployment_id=f"d{asset_id}", asset_id=asset_id, chain_id=chain, contract_address=f"0x{asset_id}", decimals=18
    )
    flags = (flag(severity, asset_id=asset_id),) if severity else ()
    return Candidate(asset, deployment, flags, is_canonical=canonical)


def chosen(*candidates: Candidate, symbol: str = "OP") -> Resolution:
    """Resolve, and prove that the order in which candidates come is of no account."""
    answers: list[Resolution | AmbiguousError] = []
    for order in itertools.permutations(candidates):
        try:
            answers.append(choose(order, symbol, 7, "replica", symbol))
        except AmbiguousError as error:
            answers.append(error)
    first = answers[0]
    if isinstance(first, AmbiguousError):
        assert all(isinstance(a, AmbiguousError) and a.candidates == first.candidates for a in answers)
        raise first
    assert all(answer == first for answer in answers)
    return first


def test_r2_no_candidate_is_not_found() -> None:
    """Nothing there: NotFoundError."""
    with pytest.raises(NotFoundError):
        chosen()


def test_r2_one_candidate_is_the_answer_whatever_its_case() -> None:
    """A folded match answers if it is the only one."""
    answer = chosen(candidate("1", "op"))
    assert (answer.asset.symbol, answer.collisions, answer.position) == ("op", (), 7)


def test_r2_an_exact_case_match_wins_over_folded_ones_and_lists_them() -> None:
    """Optimism has an OP and an op: real, different tokens."""
    answer = chosen(candidate("1", "op", canonical=True), candidate("2", "OP"))
    assert answer.asset.asset_id == "2"
    assert [c.asset_id for c in answer.collisions] == ["1"]


def test_r2_among_equals_the_canonical_one_wins() -> None:
    """Exactly one canonical candidate is preferred."""
    assert chosen(candidate("1", "OP"), candidate("2", "OP", canonical=True)).asset.asset_id == "2"


@pytest.mark.parametrize("canonical", [False, True])
def test_r2_none_or_several_canonical_ones_are_ambiguous_with_every_candidate(canonical: bool) -> None:
    """Never by order, age or first hit: the caller gets them all."""
    with pytest.raises(AmbiguousError) as caught:
        chosen(
            candidate("2", "OP", canonical=canonical), candidate("1", "OP", canonical=canonical), candidate("3", "op")
        )
    assert [c.asset_id for c in caught.value.candidates] == ["1", "2", "3"]
    assert caught.value.candidates[0].contract_address == "0x1"


@pytest.mark.parametrize("severity", list(Severity))
def test_r2_a_flag_takes_no_candidate_out_of_the_running(severity: Severity) -> None:
    """If it did, flags raised and cleared would lead a name from one asset to another (U1)."""
    with pytest.raises(AmbiguousError) as caught:
        chosen(candidate("1", "OP", severity=severity), candidate("2", "OP"))
    assert [each.flags for each in caught.value.candidates] == [((FlagType.SCAM, severity),), ()]
    answer = chosen(candidate("1", "OP", severity=severity, canonical=True), candidate("2", "OP"))
    assert (answer.asset.asset_id, answer.flags[0].severity) == ("1", severity)


REGISTRIES = st.lists(
    st.tuples(st.sampled_from(["OP", "op", "Op"]), st.booleans(), st.booleans()), min_size=1, max_size=5
)
FLAGS = st.lists(st.lists(st.sampled_from([None, *Severity]), min_size=5, max_size=5), min_size=1, max_size=6)


@given(registry=REGISTRIES, history=FLAGS, symbol=st.sampled_from(["OP", "op", "oP"]))
def test_r2_no_history_of_flags_leads_a_name_from_one_asset_to_another(
    registry: list[tuple[str, bool, bool]], history: list[list[Severity | None]], symbol: str
) -> None:
    """For any candidates and any flags raised and cleared the answer is one asset, or ambiguous, or none (rule R2, amended)."""
    answers = set()
    for severities in history:
        candidates = [
            msgspec.structs.replace(
                candidate(str(number), text, canonical=canonical, severity=severity), look_alike=look_alike
            )
            for number, ((text, canonical, look_alike), severity) in enumerate(zip(registry, severities, strict=False))
        ]
        with contextlib.suppress(AmbiguousError, NotFoundError):
            answers.add(choose(candidates, symbol, 7, "replica", symbol).asset.asset_id)
    assert len(answers) <= 1


def test_r18_what_only_looks_alike_is_never_the_answer() -> None:
    """D1: alone on a chain, the Cyrillic UЅDТ answered for USDT. It is told, in the error."""
    twin = msgspec.structs.replace(candidate("1", "U\u0405D\u0422", canonical=True), look_alike=True)
    other = msgspec.structs.replace(candidate("2", "USD\u0422"), look_alike=True)
    for alike in ([twin], [twin, other]):  # of two the answer was AMBIGUOUS, with no candidate
        with pytest.raises(NotFoundError, match="looks like it") as caught:
            choose(alike, "USDT", 7, "replica", "USDT", "optimism")
        assert [(each.asset_id, each.look_alike) for each in caught.value.look_alikes] == [
            (each.asset.asset_id, True) for each in alike
        ]


def test_r2_a_healthy_folded_match_never_answers_for_a_flagged_exact_one() -> None:
    """`op` is another token than the flagged `OP`: the flagged one is the answer, with its flags shown."""
    answer = chosen(candidate("1", "OP", severity=Severity.CRITICAL), candidate("2", "op"))
    assert (answer.asset.asset_id, answer.flags[0].severity) == ("1", Severity.CRITICAL)


def test_r2_if_only_flagged_candidates_exist_they_answer_and_show_it() -> None:
    """No healthy candidate: the rules go on among the flagged ones."""
    answer = chosen(
        candidate("1", "OP", severity=Severity.CRITICAL), candidate("2", "OP", severity=Severity.HIGH, canonical=True)
    )
    assert (answer.asset.asset_id, answer.flags[0].severity) == ("2", Severity.HIGH)


def test_worst_first_keeps_active_flags_in_an_order_that_storage_cannot_change() -> None:
    """Cleared flags are gone, the worst is first, ties are broken by type, source and id."""
    flags = [
        flag(Severity.LOW, flag_id="3"),
        flag(Severity.HIGH, flag_id="2"),
        flag(Severity.HIGH, flag_id="1"),
        flag(Severity.CRITICAL, flag_id="4", cleared=True),
    ]
    for order in itertools.permutations(flags):
        assert [f.flag_id for f in worst_first(order)] == ["1", "2", "3"]


def verdict(
    *flags: QualityFlag,
    exists: bool = True,
    age: float = 0.0,
    max_age: float = 15.0,
    block_at: Severity = Severity.CRITICAL,
) -> Decision:
    """Ask the gate."""
    return judge("a", exists=exists, flags=flags, block_at=block_at, age=age, max_age=max_age, position=1).decision


def test_r11_allow_needs_an_asset_that_exists_fresh_data_and_no_blocking_flag() -> None:
    """ALLOW is the only yes."""
    assert verdict() is Decision.ALLOW
    assert verdict(flag(Severity.HIGH)) is Decision.ALLOW


def test_r11_a_threshold_means_at_least() -> None:
    """The project that this one descends from tested equality."""
    assert verdict(flag(Severity.CRITICAL)) is Decision.BLOCK
    assert verdict(flag(Severity.CRITICAL), block_at=Severity.MEDIUM) is Decision.BLOCK
    assert verdict(flag(Severity.LOW), block_at=Severity.MEDIUM) is Decision.ALLOW


@pytest.mark.parametrize("age", [15.1, math.inf, math.nan])
def test_r11_old_data_are_unknown(age: float) -> None:
    """Older than `max_age`, never heard, or not a number: UNKNOWN."""
    assert verdict(age=age) is Decision.UNKNOWN


def test_r11_an_unknown_asset_is_unknown() -> None:
    """No such asset: UNKNOWN, not ALLOW."""
    assert verdict(exists=False) is Decision.UNKNOWN


def test_r11_a_known_block_stays_a_block_however_old() -> None:
    """Age adds doubt, it never removes a warning."""
    assert verdict(flag(Severity.CRITICAL), age=math.inf) is Decision.BLOCK


def test_r11_require_raises_unless_allowed() -> None:
    """`require` is silent for ALLOW only, and its errors carry the verdict."""
    allow = judge("a", exists=True, flags=(), block_at=Severity.CRITICAL, age=0, max_age=1, position=1)
    require("a", allow)
    block = judge(
        "a", exists=True, flags=(flag(Severity.CRITICAL),), block_at=Severity.CRITICAL, age=0, max_age=1, position=1
    )
    with pytest.raises(AssetBlockedError, match="because") as caught:
        require("a", block)
    assert caught.value.verdict is block
    unknown = judge("a", exists=False, flags=(), block_at=Severity.CRITICAL, age=0, max_age=1, position=1)
    with pytest.raises(VerdictUnknownError):
        require("a", unknown)
