"""Who may do what, on real servers: tokens and roles for every method, rules about flags, revocation, start, audit."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import msgspec
import psycopg
import pytest
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from cqar import wire
from cqar.access import Role, Token, with_implied
from cqar.client import connect
from cqar.client._admin import Admin, NewToken
from cqar.client._registry import Outcome, Registry
from cqar.client._remote import Remote
from cqar.errors import (
    CqarError,
    InvalidError,
    LimitError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
    UnavailableError,
)
from cqar.model import (
    ASSET,
    QUALITY_FLAG,
    Asset,
    AssetType,
    Chain,
    Deployment,
    FlagType,
    Op,
    QualityFlag,
    Record,
    Severity,
)
from cqar.server import rights
from cqar.server.config import Config
from cqar.server.guard import Guard
from cqar.server.registry import Call
from cqar.server.registry import Registry as ServerRegistry
from cqar.server.server import ServerThread, running_server
from cqar.server.store import Store
from cqar.server.tokens import Known, Tokens, parse
from cqar.v1 import admin_pb2

PATIENCE = 20.0
HEALTH = "grpc.health.v1.Health"
REFUSALS = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}
WRONG = f"cqar_{'0' * 16}_{'0' * 64}"


def config(url: str, folder: Path, **settings: Any) -> Config:
    """Give the settings of a small server."""
    return Config(
        **{
            "listen": "127.0.0.1:0",
            "database": url,
            "data_dir": folder,
            "workers": 4,
            "heartbeat_interval": 0.2,
            "snapshot_interval": 0.0,
            **settings,
        }
    )


@pytest.fixture
def tokens(store: Store) -> Tokens:
    """Give the tokens of a fresh database; there are none."""
    return Tokens(store)


def secret_of(tokens: Tokens, *roles: Role, name: str = "") -> str:
    """Make a token and give its text."""
    return tokens.create(name or "-".join(roles), roles, created_by="test")[1]


@pytest.fixture
def by_role(tokens: Tokens) -> dict[Role, str]:
    """Give the text of a token for each role, named as the role."""
    return {role: secret_of(tokens, role) for role in Role}


@pytest.fixture
def server(by_role: dict[Role, str], migrated_url: str, open_folder: Path) -> Iterator[ServerThread]:
    """Run a server that wants tokens."""
    assert by_role
    with running_server(config(migrated_url, open_folder)) as server:
        yield server


def remote(server: ServerThread, token: str | None = None, actor: str | None = None) -> Remote:
    """Connect to a server."""
    return Remote(server.target, token=token, actor=actor, timeout=10.0)


@contextmanager
def acting(
    server: ServerThread, token: str | None = None, actor: str | None = None
) -> Iterator[tuple[Registry, Admin]]:
    """Yield what the owner of a token can do."""
    connection = remote(server, token, actor)
    try:
        yield Registry(connection), Admin(connection)
    finally:
        connection.close()


def eventually(true: Callable[[], bool]) -> None:
    """Wait until something is so."""
    limit = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.02)


# --- every method --------------------------------------------------------------------------------------------------------


class Method(NamedTuple):
    """A method of the contract."""

    path: str
    asks: bool  # with a stream of requests
    tells: bool  # with a stream of replies

    @property
    def name(self) -> str:
        """Its own name."""
        return self.path.rpartition("/")[2]


def ask(channel: grpc.Channel, method: Method, token: str | None) -> tuple[grpc.StatusCode, CqarError | None]:
    """Call a method with an empty request; give the status, and the error that it stands for."""
    metadata = None if token is None else [("authorization", f"Bearer {token}")]
    kind = f"{'stream' if method.asks else 'unary'}_{'stream' if method.tells else 'unary'}"
    call = getattr(channel, kind)(method.path)
    try:
        reply = call(iter([b""]) if method.asks else b"", timeout=10, metadata=metadata)
        if method.tells:
            next(iter(reply))
            reply.cancel()
    except grpc.RpcError as error:
        trailing = [(entry.key, entry.value) for entry in error.trailing_metadata() or ()]
        return error.code(), wire.error_from_status(error.code(), error.details() or "", trailing)
    return grpc.StatusCode.OK, None


def services_of(channel: grpc.Channel, token: str) -> list[str]:
    """Ask a server which services it has."""
    call: Any = channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    (reply,) = call(iter([asked]), timeout=10, metadata=[("authorization", f"Bearer {token}")])
    return [service.name for service in reply.list_services_response.service]


def methods_of(services: Iterable[str]) -> list[Method]:
    """List all methods by the descriptors."""
    pool = descriptor_pool.Default()
    return [
        Method(f"/{service}/{method.name}", method.client_streaming, method.server_streaming)
        for service in services
        for method in pool.FindServiceByName(service).methods
    ]


@pytest.fixture
def channel(server: ServerThread) -> Iterator[grpc.Channel]:
    """Yield a channel to the server that wants tokens."""
    with grpc.insecure_channel(server.target) as channel:
        yield channel


@pytest.fixture
def methods(channel: grpc.Channel, by_role: dict[Role, str]) -> list[Method]:
    """List all methods of all services that the server says it has, but for its health."""
    services = services_of(channel, by_role[Role.ADMIN])
    assert {"cqar.v1.AssetRegistry", "cqar.v1.Replication", "cqar.v1.Admin", HEALTH} <= {*services}
    found = methods_of([service for service in services if service != HEALTH])
    assert len(found) > 40
    return found


def needed(method: Method) -> Role:
    """Tell, by its name alone, which role a method should need: an opinion beside that of the table."""
    if "/cqar.v1.Admin/" in method.path:
        return Role.ADMIN
    if method.name in {"RaiseQualityFlag", "ResolveQualityFlag"}:
        return Role.FLAGGER
    reading = ("Get", "List", "Search", "Resolve", "Check", "Watch", "Fetch", "ServerReflection")
    return Role.READER if method.name.startswith(reading) else Role.WRITER


def test_the_table_names_every_method_and_its_role(methods: list[Method]) -> None:
    """No method of a service that is registered can be forgotten, and what writes is no reader's."""
    assert {method.path: rights.NEEDED.get(method.path) for method in methods} == {
        method.path: needed(method) for method in methods
    }


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (None, "TOKEN_MISSING"),
        ("", "TOKEN_MISSING"),
        ("nonsense", "TOKEN_UNKNOWN"),
        (WRONG, "TOKEN_UNKNOWN"),
        ("another secret", "TOKEN_UNKNOWN"),
        ("expired", "TOKEN_EXPIRED"),
        ("revoked", "TOKEN_REVOKED"),
    ],
)
def test_every_method_refuses_a_token_that_is_none(
    methods: list[Method],
    channel: grpc.Channel,
    tokens: Tokens,
    by_role: dict[Role, str],
    *,
    migrated_url: str,
    spoil: str | None,
    reason: str,
) -> None:
    """Missing, malformed, unknown, wrong, expired or revoked: UNAUTHENTICATED with the reason, from each method."""
    token = spoil
    if spoil == "another secret":
        token = by_role[Role.ADMIN][:-64] + "f" * 64
    elif spoil in {"expired", "revoked"}:
        made, token = tokens.create("late", [Role.ADMIN], created_by="test")
        if spoil == "revoked":
            tokens.revoke(made.token_id, revoked_by="test")
        else:
            with psycopg.connect(migrated_url) as connection:
                connection.execute(
                    "UPDATE api_tokens SET expires_at = now() - interval '1 s' WHERE token_id = %s", [made.token_id]
                )
    told = {method: ask(channel, method, token) for method in methods}
    assert {method: (code, error and error.reason) for method, (code, error) in told.items()} == dict.fromkeys(
        methods, (grpc.StatusCode.UNAUTHENTICATED, reason)
    )
    assert all(isinstance(error, UnauthenticatedError) for _, error in told.values())


@pytest.mark.parametrize("role", Role)
def test_every_method_refuses_a_token_that_may_too_little_and_no_other(
    methods: list[Method], channel: grpc.Channel, by_role: dict[Role, str], role: Role
) -> None:
    """PERMISSION_DENIED names the role that is needed; with it the call gets to its handler, whatever that says."""
    wrong = {}
    for method in methods:
        code, error = ask(channel, method, by_role[role])
        if needed(method) in with_implied([role]):
            is_right = code not in REFUSALS
        else:
            is_right = (
                isinstance(error, PermissionDeniedError)
                and error.reason == "ROLE_NEEDED"
                and error.metadata == {"role": needed(method), "method": method.name}
                and needed(method) in error.message
            )
        if not is_right:
            wrong[method] = code, error
    assert not wrong


def test_what_the_table_does_not_name_is_refused_even_to_an_admin(
    channel: grpc.Channel, by_role: dict[Role, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A method that somebody forgot to give a role is closed, not open."""
    path = "/cqar.v1.AssetRegistry/ListChains"
    assert ask(channel, Method(path, asks=False, tells=False), by_role[Role.ADMIN])[0] is grpc.StatusCode.OK
    monkeypatch.delitem(rights.NEEDED, path)
    code, error = ask(channel, Method(path, asks=False, tells=False), by_role[Role.ADMIN])
    assert (code, error and error.reason) == (grpc.StatusCode.PERMISSION_DENIED, "METHOD_NOT_LISTED")


def test_the_health_can_be_asked_without_a_token(channel: grpc.Channel) -> None:
    """Probes have none."""
    check = channel.unary_unary(
        f"/{HEALTH}/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    for service in ("", "cqar.v1.Admin"):
        assert check(health_pb2.HealthCheckRequest(service=service)).status == health_pb2.HealthCheckResponse.SERVING


def test_a_request_is_not_even_read_before_its_token(channel: grpc.Channel) -> None:
    """Malformed bytes without a token are no INVALID_ARGUMENT: nobody makes the server parse for nothing."""
    get: Any = channel.unary_unary("/cqar.v1.AssetRegistry/GetAsset")
    with pytest.raises(grpc.RpcError) as caught:
        get(b"\xff\xff", timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_roles_of_one_token_add_up(tokens: Tokens) -> None:
    """Each role brings along what it implies, and nothing more."""
    assert with_implied([Role.WRITER, Role.FLAGGER]) == {Role.WRITER, Role.FLAGGER, Role.READER}
    assert with_implied([Role.APPROVER]) == {Role.APPROVER, Role.FLAGGER, Role.READER}
    assert with_implied([Role.ADMIN]) == {*Role}
    made, _ = tokens.create("both", [Role.FLAGGER, Role.WRITER, Role.WRITER], created_by="test")
    assert made.roles == (Role.WRITER, Role.FLAGGER)


# --- flags ---------------------------------------------------------------------------------------------------------------


def coin(registry: Registry, symbol: str = "ABC") -> str:
    """Create an asset and give its id."""
    return registry.create_asset(Asset(symbol=symbol, name=symbol, asset_type=AssetType.TOKEN)).asset.asset_id


def warning(asset_id: str, severity: Severity, reason: str = "because") -> QualityFlag:
    """Give a flag to raise."""
    return QualityFlag(asset_id=asset_id, flag_type=FlagType.EXPLOITED, severity=severity, source="desk", reason=reason)


def test_only_an_approver_clears_a_critical_flag(server: ServerThread, by_role: dict[Role, str]) -> None:
    """A flagger clears HIGH but not CRITICAL; an approver and an admin do."""
    with (
        acting(server, by_role[Role.WRITER]) as (writer, _),
        acting(server, by_role[Role.FLAGGER]) as (flagger, _),
        acting(server, by_role[Role.APPROVER]) as (approver, _),
    ):
        asset_id = coin(writer)
        high = flagger.raise_quality_flag(warning(asset_id, Severity.HIGH)).record
        assert flagger.resolve_quality_flag(high.flag_id, reason="fine").record.cleared_by == "flagger"
        critical = flagger.raise_quality_flag(warning(asset_id, Severity.CRITICAL)).record
        with pytest.raises(PermissionDeniedError, match="approver") as caught:
            flagger.resolve_quality_flag(critical.flag_id, reason="fine")
        assert (caught.value.reason, caught.value.metadata["role"]) == ("ROLE_NEEDED", "approver")
        (still,) = flagger.list_quality_flags(asset_id=asset_id)
        assert still.is_active
        assert approver.resolve_quality_flag(critical.flag_id, reason="fine").record.cleared_by == "approver"


def test_a_critical_flag_cannot_be_lowered_instead_of_cleared(
    server: ServerThread, by_role: dict[Role, str], tokens: Tokens
) -> None:
    """Raising it again at a lower severity, and upserting it lower, need the same right; what keeps it CRITICAL does not."""
    both = secret_of(tokens, Role.WRITER, Role.FLAGGER)
    with (
        acting(server, both) as (flagger, _),
        acting(server, by_role[Role.APPROVER]) as (approver, _),
        acting(server, secret_of(tokens, Role.WRITER, Role.APPROVER)) as (importer, _),
    ):
        asset_id = coin(flagger)
        lower = warning(asset_id, Severity.INFO, "never mind")

        def severity() -> Severity:
            (flag,) = flagger.list_quality_flags(asset_id=asset_id)
            return flag.severity

        flagger.raise_quality_flag(warning(asset_id, Severity.CRITICAL))
        with pytest.raises(PermissionDeniedError, match="approver"):
            flagger.raise_quality_flag(lower)
        assert severity() is Severity.CRITICAL
        (refused,), _ = flagger.upsert_records([lower], replace=True)
        assert (refused.outcome, refused.reason) == (Outcome.REFUSED, "ROLE_NEEDED")
        assert severity() is Severity.CRITICAL
        (unchanged,), _ = flagger.upsert_records([lower])
        assert unchanged.outcome is not Outcome.REFUSED  # merging fills gaps and leaves the severity alone
        assert severity() is Severity.CRITICAL
        again = flagger.raise_quality_flag(warning(asset_id, Severity.CRITICAL, "worse than thought")).record
        assert again.reason == "worse than thought"
        assert approver.raise_quality_flag(lower).record.severity is Severity.INFO
        flagger.raise_quality_flag(warning(asset_id, Severity.CRITICAL))
        (done,), _ = importer.upsert_records([lower], replace=True)
        assert done.outcome is Outcome.UPDATED
        assert severity() is Severity.INFO


def test_a_critical_flag_cannot_be_slipped_off_by_deleting(
    server: ServerThread, by_role: dict[Role, str], tokens: Tokens
) -> None:
    """Neither the asset nor its address can be freed for another asset without the flag, but by an approver."""
    with (
        acting(server, secret_of(tokens, Role.WRITER, Role.FLAGGER)) as (writer, _),
        acting(server, secret_of(tokens, Role.WRITER, Role.APPROVER)) as (approver, _),
    ):
        writer.create_chain(Chain(chain_id="slippery", name="Slippery", namespace="eip155"))
        asset_id, other = coin(writer), coin(writer)
        place = Deployment(asset_id=asset_id, chain_id="slippery", contract_address=f"0x{'ab' * 20}", decimals=18)
        deployment = writer.create_asset_deployment(place).record
        writer.raise_quality_flag(warning(asset_id, Severity.CRITICAL))
        with pytest.raises(PermissionDeniedError, match="CRITICAL") as caught:
            writer.delete_asset(asset_id)
        assert caught.value.metadata["role"] == "approver"
        with pytest.raises(PermissionDeniedError, match="CRITICAL"):
            writer.delete_asset_deployment(deployment.deployment_id)
        (moved,), _ = writer.upsert_records([msgspec.structs.replace(place, asset_id=other)], replace=True)
        assert moved.outcome is Outcome.REFUSED
        approver.delete_asset_deployment(deployment.deployment_id)
        approver.delete_asset(asset_id)
        writer.delete_asset(other)


def test_a_writer_upserts_everything_but_flags(server: ServerThread, by_role: dict[Role, str], tokens: Tokens) -> None:
    """A flag in a bulk write of a mere writer is refused by itself; the rest of the write counts."""
    with acting(server, by_role[Role.WRITER]) as (writer, _):
        asset_id = coin(writer)
        records: list[Record] = [
            Chain(chain_id="ethereum", name="Ethereum", namespace="eip155", caip2="eip155:1", network_id=1),
            warning(asset_id, Severity.LOW),
        ]
        chain, flag = writer.upsert_records(records)[0]
        assert (chain.outcome, flag.outcome) == (Outcome.CREATED, Outcome.REFUSED)
        assert (flag.reason, "flagger" in flag.message) == ("ROLE_NEEDED", True)
        assert not list(writer.list_quality_flags(asset_id=asset_id))
    with acting(server, secret_of(tokens, Role.WRITER, Role.FLAGGER)) as (both, _):
        assert [result.outcome for result in both.upsert_records(records)[0]] == [Outcome.UNCHANGED, Outcome.CREATED]


# --- tokens --------------------------------------------------------------------------------------------------------------


def test_the_name_of_the_token_is_the_actor_whatever_the_caller_says(
    server: ServerThread, by_role: dict[Role, str]
) -> None:
    """`cqar-actor` is for open servers; with a token it counts for nothing."""
    with (
        acting(server, by_role[Role.WRITER], actor="the boss") as (writer, _),
        acting(server, by_role[Role.ADMIN]) as (_, admin),
    ):
        coin(writer)
        (entry,) = admin.list_audit_entries()
        assert entry.actor == "writer"


def test_a_token_lives_from_its_making_to_its_end(server: ServerThread, by_role: dict[Role, str]) -> None:
    """It works at once, is listed without its secret, is noted when used, and is refused at once when revoked, for good."""
    until = datetime.now(UTC) + timedelta(days=1)
    with acting(server, by_role[Role.ADMIN]) as (_, admin):
        made = admin.create_token("robot", [Role.READER], expires_at=until)
        assert (made.token.name, made.token.roles, made.token.created_by) == ("robot", (Role.READER,), "admin")
        assert made.token.expires_at == until
        with acting(server, made.secret) as (robot, _):
            assert not list(robot.list_chains())

            def listed() -> Token:
                return next(token for token in admin.list_tokens() if token.token_id == made.token.token_id)

            eventually(lambda: listed().last_used_at is not None)
            ended = admin.revoke_token(made.token.token_id)
            assert (ended.revoked_by, ended.has_ended(datetime.now(UTC))) == ("admin", True)
            with pytest.raises(UnauthenticatedError) as caught:
                list(robot.list_chains())
            assert caught.value.reason == "TOKEN_REVOKED"
        assert admin.revoke_token(made.token.token_id) == ended
        assert "robot" not in {token.name for token in admin.list_tokens()}
        assert "robot" in {token.name for token in admin.list_tokens(include_ended=True)}


def test_tokens_are_listed_page_by_page(tokens: Tokens) -> None:
    """Newest first, each once, whatever the size of the page."""
    made = [tokens.create(str(number), [Role.READER], created_by="test")[0] for number in range(5)]
    after, found = None, list[Token]()
    while page := tokens.page(include_ended=False, after=after, limit=2):
        found += page
        after = page[-1].created_at, page[-1].token_id
    assert found == made[::-1]


def test_a_bad_token_is_not_made(server: ServerThread, by_role: dict[Role, str]) -> None:
    """Without a name, a role, or time to live it is refused, with the field."""
    past = datetime.now(UTC) - timedelta(seconds=1)
    with acting(server, by_role[Role.ADMIN]) as (_, admin):
        before = len(list(admin.list_tokens()))
        bad: tuple[tuple[str, list[Role], datetime | None, str], ...] = (
            ("", [Role.READER], None, "name"),
            ("x" * 129, [Role.READER], None, "name"),
            ("x\x00", [Role.READER], None, "name"),
            ("x", [], None, "roles"),
            ("x", [Role.READER], past, "expires_at"),
        )
        for name, roles, expires_at, field in bad:
            with pytest.raises(InvalidError) as caught:
                admin.create_token(name, roles, expires_at=expires_at)
            assert caught.value.field == field
        with pytest.raises(NotFoundError):
            admin.revoke_token("0" * 16)
        assert len(list(admin.list_tokens())) == before
    unknown_role = admin_pb2.CreateTokenRequest(name="x", roles=[99])  # type: ignore[list-item]
    connection = remote(server, by_role[Role.ADMIN])
    with pytest.raises(InvalidError) as caught:
        connection.call_admin("CreateToken", unknown_role)
    assert caught.value.field == "roles"
    connection.close()


def test_a_revocation_reaches_other_servers_and_their_feeds(
    server: ServerThread, by_role: dict[Role, str], migrated_url: str, tmp_path: Path
) -> None:
    """A token made on one server works on another at once; revoked there, it is refused and its open feed ends."""
    with (
        running_server(config(migrated_url, tmp_path)) as other,
        acting(server, by_role[Role.ADMIN]) as (_, admin),
    ):
        made = admin.create_token("follower", [Role.READER])
        follower = remote(other, made.secret)
        heard, errors = threading.Event(), list[CqarError]()

        def follow() -> None:
            try:
                for _ in follower.watch(follower.head()):
                    heard.set()
            except CqarError as error:
                errors.append(error)

        thread = threading.Thread(target=follow)
        thread.start()
        assert heard.wait(PATIENCE)
        begun = time.monotonic()
        admin.revoke_token(made.token.token_id)
        thread.join(PATIENCE)
        assert time.monotonic() - begun < 5
        (error,) = errors
        assert (type(error), error.reason) == (UnauthenticatedError, "TOKEN_REVOKED")
        with pytest.raises(UnauthenticatedError):
            follower.head()
        follower.close()


def test_a_feed_ends_when_its_token_expires(server: ServerThread, tokens: Tokens) -> None:
    """A feed does not outlive the token that opened it."""
    soon = datetime.now(UTC) + timedelta(seconds=1.5)
    _, secret = tokens.create("brief", [Role.READER], created_by="test", expires_at=soon)
    follower = remote(server, secret)
    feed = follower.watch(follower.head())
    with pytest.raises(UnauthenticatedError) as caught:
        list(feed)
    assert datetime.now(UTC) < soon + timedelta(seconds=5)
    assert caught.value.reason == "TOKEN_EXPIRED"
    follower.close()


def test_the_first_token_closes_an_open_server(migrated_url: str, open_folder: Path) -> None:
    """Whoever had come in without a token, feeds included, has to go."""
    with (
        running_server(config(migrated_url, open_folder)) as server,
        acting(server, actor="me") as (registry, admin),
    ):
        chain = Chain(chain_id="ethereum", name="Ethereum", namespace="eip155", caip2="eip155:1", network_id=1)
        registry.create_chain(chain)
        (entry,) = admin.list_audit_entries()
        assert entry.actor == "me"
        follower = remote(server)
        feed = iter(follower.watch(follower.head()))
        next(feed)
        made = admin.create_token("ops", [Role.ADMIN])
        assert made.token.created_by == "me"
        with pytest.raises(UnauthenticatedError) as caught:
            list(feed)
        assert caught.value.reason == "TOKEN_MISSING"
        with pytest.raises(UnauthenticatedError):
            list(registry.list_chains())
        follower.close()


def test_nobody_gets_in_when_the_tokens_cannot_be_read(
    migrated_url: str, tokens: Tokens, by_role: dict[Role, str], caplog: pytest.LogCaptureFixture
) -> None:
    """A look that is too old closes the door, with UNAVAILABLE, and ends the feeds; it opens when the database is back."""
    header, name = f"Bearer {by_role[Role.READER]}", migrated_url.partition("@/")[2].partition("?")[0]
    url_of_another = migrated_url.replace(name, "postgres")

    def cut(*, off: bool) -> None:
        with psycopg.connect(url_of_another, autocommit=True) as connection:
            connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {'false' if off else 'true'}".encode())
            if off:
                connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])

    async def run() -> None:
        guard = Guard(read_every=0.05, stale_after=0.5)
        await guard.start(tokens, may_be_open=True)
        caller = await guard.admit(header)
        assert caller is not None
        assert caller.roles == {Role.READER}
        await asyncio.to_thread(cut, off=True)
        with pytest.raises(UnavailableError) as caught:
            async with asyncio.timeout(PATIENCE), guard.while_valid(caller.token_id):
                await asyncio.Event().wait()
        assert caught.value.reason == "TOKENS_STALE"
        with pytest.raises(UnavailableError):
            await guard.admit(header)
        waiting = [guard.admit(f"Bearer {WRONG}") for _ in range(100)]  # they share a failure like a success
        async with asyncio.timeout(PATIENCE):
            refused = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(each) for each in refused} == {UnavailableError}
        await asyncio.to_thread(cut, off=False)
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    assert await guard.admit(header) == caller
                    break
                except UnavailableError:
                    await asyncio.sleep(0.02)
        await guard.stop()

    asyncio.run(run())
    assert "the API tokens cannot be read" in caplog.text


def test_unknown_tokens_do_not_flood_the_database(tokens: Tokens, by_role: dict[Role, str]) -> None:
    """However many arrive at once, they wait for one look; those that are known do not wait for it."""
    looks = 0

    class Counting(Tokens):
        def known(self, used: Iterable[str] = ()) -> dict[str, Known]:
            nonlocal looks
            looks += 1
            return super().known(used)

    async def run() -> None:
        guard = Guard(read_every=60)
        await guard.start(Counting(tokens._store), may_be_open=True)
        begun = time.monotonic()
        refused = await asyncio.gather(*[guard.admit(f"Bearer {WRONG}") for _ in range(500)], return_exceptions=True)
        assert {type(each) for each in refused} == {UnauthenticatedError, LimitError}  # 256 may wait
        assert looks <= 2 + (time.monotonic() - begun) / 0.1
        assert await guard.admit(f"bearer {by_role[Role.ADMIN]}") is not None
        await guard.stop()

    asyncio.run(run())


def test_secrets_are_nowhere_but_with_their_owner(
    server: ServerThread, by_role: dict[Role, str], migrated_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the database, nor a log, nor an error, nor a repr has them; what is stored is the hash."""
    caplog.set_level(logging.DEBUG)
    said: list[str] = []
    with acting(server, by_role[Role.ADMIN]) as (_, admin):
        made = admin.create_token("robot", [Role.READER])
        bad = made.secret[:-1] + ("0" if made.secret[-1] != "0" else "1")
        for secret in (bad, f"{made.secret}x", made.secret):
            with acting(server, secret) as (robot, _), pytest.raises(CqarError) as caught:
                coin(robot)
            said += [repr(caught.value), str(caught.value), str(caught.value.metadata)]
        admin.revoke_token(made.token.token_id)
    secret = made.secret.rpartition("_")[2]
    assert isinstance(made, NewToken)
    digest = hashlib.sha256(secret.encode()).digest()
    parsed = parse(made.secret)
    assert parsed == (made.token.token_id, digest)
    known = Known(made.token, digest)
    with psycopg.connect(migrated_url) as connection:
        stored = connection.execute("SELECT hash FROM api_tokens WHERE token_id = %s", [made.token.token_id])
        assert stored.fetchall() == [(digest,)]
        for table in ("api_tokens", "requests", "batches", "changes"):
            said.append(str(connection.execute(f"SELECT t::text FROM {table} AS t".encode()).fetchall()))
    said += [repr(made), str(made), repr(known), caplog.text]
    assert said[0].count("UnauthenticatedError")
    for text in said:
        assert secret[:20] not in text
        assert bad[-64:][:20] not in text
        assert by_role[Role.ADMIN][-64:] not in text
    assert digest.hex() not in repr(known)
    assert repr(digest) not in repr(known)


# --- the client ----------------------------------------------------------------------------------------------------------


def test_the_client_sends_its_token_with_every_call(
    store: Store, tokens: Tokens, migrated_url: str, open_folder: Path, tmp_path: Path
) -> None:
    """Head, list and download of snapshots, feed and look-ups all carry it: a replica comes up and follows."""
    ServerRegistry(store).create_chain(
        Call(), Chain(chain_id="ethereum", name="Ethereum", namespace="eip155", caip2="eip155:1", network_id=1)
    )
    reader, admin = secret_of(tokens, Role.READER), secret_of(tokens, Role.ADMIN)
    with running_server(config(migrated_url, open_folder, snapshot_interval=60.0)) as server:
        watcher = remote(server, reader)
        eventually(lambda: bool(watcher.snapshots()))
        watcher.close()
        with pytest.raises(UnauthenticatedError) as caught:
            connect(server.target, token=WRONG, replica_dir=tmp_path / "none")
        assert caught.value.reason == "TOKEN_UNKNOWN"
        with (
            connect(server.target, token=reader, replica_dir=tmp_path / "replica") as client,
            connect(server.target, token=admin, replica_dir=tmp_path / "replica") as chief,
        ):
            assert [chain.chain_id for chain in client.list_chains()] == ["ethereum"]
            made = chief.registry.create_asset(Asset(symbol="ABC", name="Abc", asset_type=AssetType.TOKEN))
            client.wait_for(made.position, PATIENCE)
            assert client.resolve("ABC").asset == made.asset
            with pytest.raises(PermissionDeniedError):
                client.registry.delete_asset(made.asset.asset_id)
            with pytest.raises(PermissionDeniedError):
                list(client.admin.list_tokens())
            assert {token.name for token in chief.admin.list_tokens()} == {"reader", "admin"}


# --- the start -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0"])
def test_a_server_for_others_does_not_start_without_an_admin(
    tokens: Tokens, migrated_url: str, open_folder: Path, listen: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither without tokens nor with only lesser, revoked or expired ones; it starts with a valid one, or when told to."""
    settings = config(migrated_url, open_folder, listen=listen)

    def refused() -> str:
        with pytest.raises(PreconditionError) as caught, running_server(settings):
            pass
        assert caught.value.reason == "INSECURE"
        return caught.value.message

    assert "cqar token create NAME --role admin" in refused()
    with running_server(config(migrated_url, open_folder, listen=listen, insecure=True)) as server:
        assert "EVERYBODY" in caplog.text
        with acting_at(server) as registry:
            assert not list(registry.list_chains())
    secret_of(tokens, Role.WRITER)
    refused()
    made, _ = tokens.create("gone", [Role.ADMIN], created_by="test")
    tokens.revoke(made.token_id, revoked_by="test")
    refused()
    admin = secret_of(tokens, Role.ADMIN)
    for insecure in (False, True):
        caplog.clear()
        with running_server(config(migrated_url, open_folder, listen=listen, insecure=insecure)) as server:
            assert "tokens travel in clear" in caplog.text
            with acting_at(server) as registry, pytest.raises(UnauthenticatedError):
                list(registry.list_chains())  # --insecure does not put tokens out of force
            with acting_at(server, admin) as registry:
                assert not list(registry.list_chains())


@contextmanager
def acting_at(server: ServerThread, token: str | None = None) -> Iterator[Registry]:
    """Yield the registry of a server that listens on all addresses."""
    connection = Remote(f"localhost:{server.server.port}", token=token, actor=None, timeout=10.0)
    try:
        yield Registry(connection)
    finally:
        connection.close()


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "localhost:0", "[::1]:0"])
def test_a_server_for_this_machine_is_open_until_there_is_a_token(
    tokens: Tokens, migrated_url: str, open_folder: Path, listen: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It says so in the log; once there was a token, even one that has ended, it wants one."""
    settings = config(migrated_url, open_folder, listen=listen)
    with running_server(settings) as server, acting(server) as (registry, _):
        assert "open: there is no API token" in caplog.text
        assert not list(registry.list_chains())
    made, _ = tokens.create("gone", [Role.ADMIN], created_by="test")
    tokens.revoke(made.token_id, revoked_by="test")
    caplog.clear()
    with running_server(settings) as server, acting(server) as (registry, _):
        assert "no valid token of an admin is left" in caplog.text
        with pytest.raises(UnauthenticatedError) as caught:
            list(registry.list_chains())
        assert caught.value.reason == "TOKEN_MISSING"


# --- the audit -----------------------------------------------------------------------------------------------------------


def test_the_audit_tells_who_wrote_what_with_before_and_after(server: ServerThread, by_role: dict[Role, str]) -> None:
    """A creation, an update, a flag raised and cleared, and a deletion with its cascade, newest first."""
    with (
        acting(server, by_role[Role.WRITER]) as (writer, _),
        acting(server, by_role[Role.APPROVER]) as (approver, _),
        acting(server, by_role[Role.ADMIN]) as (_, admin),
    ):
        begun = datetime.now(UTC)
        writer.create_chain(
            Chain(chain_id="ethereum", name="Ethereum", namespace="eip155", caip2="eip155:1", network_id=1)
        )
        made = writer.create_asset(
            Asset(symbol="ABC", name="Abc", asset_type=AssetType.TOKEN),
            deployments=[Deployment(asset_id="", chain_id="ethereum", contract_address="0x" + "ab" * 20, decimals=6)],
            request_id="first",
        )
        asset, (deployment,) = made.asset, made.deployments
        updated = writer.update_asset(asset.asset_id, name="Alphabet", request_id="second")
        raised = approver.raise_quality_flag(warning(asset.asset_id, Severity.CRITICAL))
        cleared = approver.resolve_quality_flag(raised.record.flag_id, reason="fine")
        other = coin(writer, "XYZ")
        gone_at = writer.delete_asset(asset.asset_id)

        def told(**filters: Any) -> list[tuple[int, str, Op, str, Record | None, Record | None]]:
            return [
                (entry.position, entry.actor, entry.op, entry.kind, entry.before, entry.after)
                for entry in admin.list_audit_entries(**filters)
            ]

        flag_story = [
            (cleared.position, "approver", Op.PUT, "quality_flag", raised.record, cleared.record),
            (raised.position, "approver", Op.PUT, "quality_flag", None, raised.record),
        ]
        asset_story = [
            (gone_at, "writer", Op.REMOVE, "asset", updated.record, None),
            (updated.position, "writer", Op.PUT, "asset", asset, updated.record),
            (made.position, "writer", Op.PUT, "asset", None, asset),
        ]
        assert told(kind="quality_flag") == told(actor="approver") == flag_story
        assert told(kind=ASSET.name, key=asset.asset_id) == asset_story
        assert told(kind=QUALITY_FLAG.name, key=raised.record.flag_id) == flag_story
        about = told(asset_id=asset.asset_id)
        assert [each for each in about if each[3] == "asset"] == asset_story
        assert [each for each in about if each[3] == "quality_flag"] == flag_story
        assert [each for each in about if each[3] == "deployment"] == [
            (gone_at, "writer", Op.REMOVE, "deployment", deployment, None),
            (made.position, "writer", Op.PUT, "deployment", None, deployment),
        ]
        assert [each[0] for each in about] == sorted([each[0] for each in about], reverse=True)
        assert told(request_id="second") == told(position=updated.position) == [asset_story[1]]
        assert {each[0] for each in told(position=made.position)} == {made.position}
        assert told(asset_id=other)[0][5] is not None
        everything = list(admin.list_audit_entries())
        assert [entry for entry in everything if entry.request_id == "first"]
        assert all(begun <= entry.committed_at <= datetime.now(UTC) for entry in everything)
        middle = everything[3].committed_at
        since, until = told(since=middle), told(until=middle)
        assert since + until == told()
        assert since
        assert until
        assert told(actor="nobody") == told(since=datetime.now(UTC) + timedelta(hours=1)) == []


def test_the_audit_is_paged_and_stays_put_under_new_writes(server: ServerThread, by_role: dict[Role, str]) -> None:
    """Pages of two, with a write between any two pages, tell each earlier entry once; a token is for its own list."""
    connection = remote(server, by_role[Role.ADMIN])
    registry = Registry(connection)
    ids = [coin(registry, f"A{number}") for number in range(5)]
    request = admin_pb2.ListAuditEntriesRequest(kind="asset", page_size=2)
    seen: list[str] = []
    while True:
        reply = connection.call_admin("ListAuditEntries", request)
        seen += [entry.key for entry in reply.entries]
        if not reply.next_page_token:
            break
        request.page_token = reply.next_page_token
        coin(registry, "NEW")
    assert seen == ids[::-1]
    request.kind = "chain"
    with pytest.raises(InvalidError) as caught:
        connection.call_admin("ListAuditEntries", request)
    assert caught.value.reason == "PAGE_TOKEN"
    connection.close()


@pytest.mark.parametrize(
    ("filters", "field"),
    [
        ({"kind": "nonsense"}, "kind"),
        ({"key": "x"}, "kind"),
        ({"asset_id": "x"}, "asset_id"),
        ({"actor": "\x00"}, "actor"),
    ],
)
def test_the_audit_refuses_what_can_match_nothing(
    server: ServerThread, by_role: dict[Role, str], filters: dict[str, Any], field: str
) -> None:
    """A misspelt filter is an error, not an empty history."""
    with acting(server, by_role[Role.ADMIN]) as (_, admin), pytest.raises(InvalidError) as caught:
        list(admin.list_audit_entries(**filters))
    assert caught.value.field == field
