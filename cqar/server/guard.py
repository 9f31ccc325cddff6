"""The guard: the API tokens of the registry, kept in memory so that a call costs no query.

They are read anew every two seconds, at once after a change on this server, and when an unknown one arrives. If they could
not be read for 30 s, nobody is let in. A feed ends within seconds of its token. Where no token ever was, and the server may be
open, everybody is let in.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Final, NamedTuple

from cqar.access import Role, with_implied
from cqar.errors import CqarError, LimitError, UnauthenticatedError, UnavailableError
from cqar.server.tokens import Known, Tokens, parse

log = logging.getLogger(__name__)

READ_EVERY: Final = 2.0  # seconds until a change made elsewhere counts
STALE_AFTER: Final = 30.0  # seconds without a look at the tokens until nobody is let in
_READ_PATIENCE: Final = 5.0  # seconds for one look
_MOST_UNKNOWN: Final = 256  # calls with unknown tokens that wait for a look
_READ_PAUSE: Final = 0.1  # seconds between two looks, however many unknown tokens arrive


class Caller(NamedTuple):
    """Who calls, and what they may do."""

    actor: str
    roles: frozenset[Role]
    token_id: str | None = None  # None: the server is open


class _Stream:
    """A feed under way: what ends it, and why it was ended."""

    def __init__(self, token_id: str | None) -> None:
        self.token_id = token_id
        self.limit = asyncio.timeout(None)
        self.error: CqarError | None = None


class Guard:
    """Knows the tokens. To be used in one event loop, but for `changed` and `check`, which any thread may call."""

    def __init__(self, *, read_every: float = READ_EVERY, stale_after: float = STALE_AFTER) -> None:
        self._read_every, self._stale_after = read_every, stale_after
        self._known: Mapping[str, Known] = {}
        self._callers: Mapping[str, Caller] = {}
        # On the monotonic clock: when the last look began, and the last one that succeeded.
        self._looked_at = self._read_at = float("-inf")
        self._may_be_open = False
        self._used: set[str] = set()
        self._waiting = 0  # calls with unknown tokens
        self._streams: set[_Stream] = set()
        self._reading = asyncio.Lock()
        self._reader = ThreadPoolExecutor(1, "cqar-tokens")
        self._tokens: Tokens
        self._loop: asyncio.AbstractEventLoop
        self._task: asyncio.Task[None] | None = None

    async def start(self, tokens: Tokens, *, may_be_open: bool) -> None:
        """Read the tokens and follow them; raises UnavailableError. `may_be_open`: without any token, all may come in."""
        self._tokens, self._may_be_open = tokens, may_be_open
        self._loop = asyncio.get_running_loop()
        await self._read()
        self._task = asyncio.create_task(self._follow(), name="cqar-tokens")

    async def stop(self) -> None:
        """Stop following. Does nothing if it was not started."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await asyncio.to_thread(self._reader.shutdown, cancel_futures=True)

    async def admit(self, authorization: str | None) -> Caller | None:
        """Tell who calls with this header; None on an open server.

        Raises UnauthenticatedError, UnavailableError if it cannot tell, and LimitError if too many unknown tokens are shown.
        """
        if self._is_open:
            self.check(None)
            return None
        scheme, _, text = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not text:
            raise _missing()
        given = parse(text.strip())
        if given is None:
            raise _unknown()
        token_id, digest = given
        if token_id not in self._known:  # it may have been made a moment ago, on another server
            if self._waiting >= _MOST_UNKNOWN:
                raise LimitError(
                    "too many calls with unknown tokens; try again in 1 s", reason="UNKNOWN_TOKENS", retry_after_ms=1000
                )
            self._waiting += 1
            try:
                await self._read_anew()
            finally:
                self._waiting -= 1
        known = self._known.get(token_id)
        if known is None or not hmac.compare_digest(known.digest, digest):
            raise _unknown()  # only who has the secret learns that the token was revoked, or has expired
        self.check(token_id)
        self._used.add(token_id)
        return self._callers[token_id]

    def check(self, token_id: str | None) -> None:
        """Raise UnauthenticatedError unless the token is still good, or, for None, the server is still open."""
        if time.monotonic() - self._read_at > self._stale_after:
            raise _unreadable()
        if token_id is None:
            if not self._is_open:
                raise _missing()
            return
        known = self._known.get(token_id)
        if known is None:
            raise _unknown()
        if known.token.revoked_at is not None:
            raise UnauthenticatedError("the token was revoked", reason="TOKEN_REVOKED")
        if known.token.has_ended(datetime.now(UTC)):
            raise UnauthenticatedError("the token has expired", reason="TOKEN_EXPIRED")

    @contextlib.asynccontextmanager
    async def while_valid(self, token_id: str | None) -> AsyncIterator[None]:
        """Run the block; when `check` would fail, end it and raise what that raises."""
        self.check(token_id)
        stream = _Stream(token_id)
        try:
            async with stream.limit:
                self._streams.add(stream)
                try:
                    yield
                finally:
                    self._streams.discard(stream)
        except TimeoutError:
            if stream.error is None:  # some other time-out
                raise
            raise stream.error from None

    def changed(self) -> None:
        """Take up a change of the tokens before this returns. Not to be called in the event loop."""
        try:
            asyncio.run_coroutine_threadsafe(self._read_anew(), self._loop).result()
        except UnavailableError as error:  # the change is made, and whoever made it must hear of that and not of this
            log.warning("a change of the API tokens counts a little later: %s", error.message)

    @property
    def _is_open(self) -> bool:
        return self._may_be_open and not self._known

    async def _follow(self) -> None:
        failing = False
        while True:
            await asyncio.sleep(self._read_every)
            try:
                await self._read_anew()
            except Exception as error:  # noqa: BLE001 - without this task nobody would get in any more
                if not failing:
                    log.warning("the API tokens cannot be read: %s", error)
                failing = True
                self._end_streams()  # when it has lasted too long
            else:
                failing = False

    async def _read_anew(self) -> None:
        """Look at the tokens, unless a look that began after this was asked for has been taken; raises UnavailableError."""
        asked_at = time.monotonic()
        async with self._reading:
            if self._looked_at <= asked_at:
                await asyncio.sleep(self._looked_at + _READ_PAUSE - time.monotonic())
                await self._read()
            elif self._read_at < self._looked_at:
                raise _unreadable()

    async def _read(self) -> None:
        before, self._looked_at = self._looked_at, time.monotonic()
        used, self._used = self._used, set()
        try:
            async with asyncio.timeout(_READ_PATIENCE):
                known = await self._loop.run_in_executor(self._reader, self._tokens.known, used)
        except TimeoutError:
            raise _unreadable() from None
        except asyncio.CancelledError:  # the caller gave up: that tells nothing to those who wait
            self._looked_at = before
            raise
        self._callers = {
            key: Caller(each.token.name, with_implied(each.token.roles), key) for key, each in known.items()
        }
        self._known, self._read_at = known, self._looked_at
        self._end_streams()

    def _end_streams(self) -> None:
        for stream in self._streams:
            if stream.error is None:
                try:
                    self.check(stream.token_id)
                except CqarError as error:
                    stream.error = error
                    stream.limit.reschedule(self._loop.time())


def _unreadable() -> UnavailableError:
    return UnavailableError("the API tokens cannot be read from the database", reason="TOKENS_STALE")


def _missing() -> UnauthenticatedError:
    return UnauthenticatedError(
        "this server wants an API token: connect(token=…), --token or CQAR_TOKEN; `cqar token create` makes one",
        reason="TOKEN_MISSING",
    )


def _unknown() -> UnauthenticatedError:
    return UnauthenticatedError("the API token is not one of this registry", reason="TOKEN_UNKNOWN")
