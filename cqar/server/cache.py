"""Answers remembered in Redis, for servers that share one: read through, never trusted.

A value (`values`) counts only if a server of this registry sealed it for its key, and none of its topics was touched since its
position, which every server knows from its own commits and from the feed (`touched`): a value that an invalidation missed, that a
slow writer put back or that somebody replays is asked for again. So Redis can be frozen, dead, flushed, wrong or in hostile hands.
Verdicts are never taken from it: the gate remembers flags, and judges them each time.

Calls wait 0.1 s for Redis at the very most, and after a failure, or while it is slower than PostgreSQL, not at all (`breaker`).
Writes go through a thread of their own; what does not fit its queue is dropped.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar, cast
from urllib.parse import parse_qsl, urlsplit

from google.protobuf.message import Message

from cqar.errors import CqarError, InvalidError
from cqar.model import FeedToken
from cqar.server.breaker import Breaker
from cqar.server.touched import Touched
from cqar.server.values import LARGEST, Body, Entry, Seal, prefix

if TYPE_CHECKING:
    import redis

log = logging.getLogger(__name__)

K = TypeVar("K")

# Seconds. Redis answers in less than a millisecond, or it is not worth waiting for; a call may wait twice, to connect and to read.
TIMEOUT: Final = 0.05
WAITING: Final = 10_000  # writes
PUT: Final = 20_000  # keys that this server knows it has put; about 40 MB
LONGEST_KEY: Final = 1_000  # characters: a longer question is not remembered
TOMBSTONE_SECONDS: Final = 10  # as long as the slowest read may take to put back what it read before
_PROBE: Final = "cqar:probe"

# Put unless there is a newer one of the same log already; whatever else stands under the key is replaced. The positions are
# compared as numbers: Lua compares texts by the locale that Redis runs in.
_PUT: Final = """
local old = redis.pcall('GETRANGE', KEYS[1], 0, 23)
if type(old) == 'string' and #old == 24 and string.sub(old, 1, 16) == string.sub(ARGV[1], 1, 16)
    and struct.unpack('>I8', old, 17) > struct.unpack('>I8', ARGV[1], 17) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1
"""


class Reply(NamedTuple):
    """An answer in the form of the wire, and what it depends on."""

    message: Message
    topics: Iterable[str] = ()
    seconds: float = 0.0  # that it may be remembered for; 0: not at all


def _itself(message: Any) -> Any:
    return message


class Plan(NamedTuple, Generic[K]):
    """How the answers to one sort of question are remembered."""

    key: Callable[[K], str | None]  # in Redis; None: this one is not remembered
    reply: type[Message]
    holder: str = ""  # field of the reply that holds the position, if it is not the reply itself
    is_strict: bool = False  # no commit of any server may be missing, however recent
    facts: Callable[[Any], Any] = _itself  # what of a reply is remembered; None: nothing of this one
    told: Callable[[Any], Any] = _itself  # the reply that follows from what is remembered

    def positioned(self, reply: Message) -> Any:
        """Give the message that holds the position of a reply."""
        return getattr(reply, self.holder) if self.holder else reply


Answer = Reply | CqarError


def client_of(url: str, field: str = "redis") -> redis.Redis:
    """Prepare connections to a Redis; none is made yet. InvalidError that names the setting for a URL that is none."""
    import redis  # noqa: PLC0415 - 0.1 s, and opentelemetry where it is installed: only for who has a Redis
    from redis.backoff import NoBackoff  # noqa: PLC0415
    from redis.retry import Retry  # noqa: PLC0415

    wrong = "must be a URL like redis://user:password@host:6379/0, rediss://host or unix:///path/to/redis.sock"
    try:
        options = [name for name, _ in parse_qsl(urlsplit(url).query)]
        if foreign := [name for name in options if name != "db" and not name.startswith("ssl_")]:
            wrong = f"the URL may not set {foreign[0]}: only db and ssl_... can be given in it"
            raise ValueError
        client = redis.Redis.from_url(
            url,
            socket_timeout=TIMEOUT,
            socket_connect_timeout=TIMEOUT,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
            protocol=2,  # with the third, Redis may push a longer time-out
        )
        client.connection_pool.make_connection()  # which looks at the options
    except (ValueError, TypeError, redis.RedisError):
        raise InvalidError(f"--{field} (CQAR_{field.upper()}): {wrong}", reason="REDIS_URL", field=field) from None
    return client


class Cache:
    """The memory in Redis. Thread-safe. No method raises for what Redis does."""

    def __init__(
        self,
        client: redis.Redis,
        touched: Touched,
        *,
        head: Callable[[], FeedToken],
        secret: Callable[[], tuple[str, bytes]],
    ) -> None:
        """Prepare; `head` asks the database where the registry is, `secret` for the log's id and what seals its values."""
        from redis import exceptions  # noqa: PLC0415 - as above

        self._failures = (exceptions.RedisError, OSError)
        self._silences = (exceptions.ConnectionError, exceptions.TimeoutError, OSError)
        self.outcomes: Counter[str] = Counter()  # hit, miss, stale, skipped, error, refused, dropped; see `_count`
        self._count_lock = threading.Lock()
        self._touched = touched
        self._head = head
        self._secret = secret
        self._seal: Seal | None = None
        self._redis = client
        self._put = self._redis.register_script(_PUT)
        self._breaker = Breaker(self._look, self._failures)
        self._refusal = ""  # what Redis said last when it refused a write
        self._known: OrderedDict[str, tuple[str, ...]] = OrderedDict()  # what this server has put, with its topics
        self._by_topic: dict[str, set[str]] = {}
        self._known_lock = threading.Lock()
        self._queue: queue.Queue[tuple[str, bytes, int] | None] = queue.Queue(WAITING)
        self._writer = threading.Thread(target=self._write, name="cqar-cache", daemon=True)

    def start(self) -> None:
        """Begin; a Redis that does not answer is left alone until it does."""
        try:
            self._look()
        except self._failures as error:
            self._fail(error)
        self._breaker.start()
        self._writer.start()

    def stop(self) -> None:
        """End; what is waiting to be written is dropped."""
        self._breaker.stop()
        self._queue.put(None)
        self._writer.join(1)
        self._redis.close()

    @property
    def trouble(self) -> str | None:
        """Why Redis is not used at present, if it is not."""
        return self._breaker.trouble

    # --- reading

    def through(
        self, plan: Plan[K], questions: Sequence[K], read: Callable[[Sequence[K]], Sequence[Answer]]
    ) -> Sequence[Answer]:
        """Give the answer to each question, from Redis where it is true still, and else from `read`."""
        read_at, seal = time.time(), self._sealing()
        keys = [_fit(plan.key(question)) for question in questions]
        found = self._get(plan, [key for key in keys if key is not None], seal)
        missing = [question for question, key in zip(questions, keys, strict=True) if key not in found]
        others = iter(self._read(read, missing) if missing else ())
        answers: list[Answer] = []
        for key in keys:
            if key in found:
                answers.append(found[key])
                continue
            answer = next(others)
            answers.append(answer)
            if seal is None or key is None or not isinstance(answer, Reply) or answer.seconds < 1:
                continue
            if (facts := plan.facts(answer.message)) is not None:
                position: int = plan.positioned(facts).position
                body = Body(read_at, answer.seconds, tuple(answer.topics), facts.SerializeToString())
                self._remember(key, seal.value(key, position, body), body)
        return answers

    def _read(self, read: Callable[[Sequence[K]], Sequence[Answer]], missing: Sequence[K]) -> Sequence[Answer]:
        began = time.monotonic()
        answers = read(missing)
        self._breaker.read(time.monotonic() - began)
        return answers

    def _sealing(self) -> Seal | None:
        """Return what seals the values of this log, asked for once; None while the log is changing."""
        seal = self._seal
        if seal is None or seal.log_id != self._touched.log_id:
            self._seal = seal = Seal(*self._secret())
        return seal if seal.log_id == self._touched.log_id else None

    def _get(self, plan: Plan[K], keys: list[str], seal: Seal | None) -> dict[str | None, Reply]:
        if not keys or seal is None or self._breaker.is_open:
            self._count("skipped", len(keys))
            return {}
        position = self._touched.position
        if plan.is_strict:
            # Asked before Redis is: whatever is committed afterwards was not there when the question was asked.
            head = self._head()
            if head.log_id != seal.log_id or not position <= head.position <= self._touched.position:
                self._count("skipped", len(keys))
                return {}
            position = head.position
        began = time.monotonic()
        try:
            values = cast("list[bytes | None]", self._redis.mget(keys))
        except self._failures as error:
            self._fail(error)
            return {}
        self._breaker.answered(time.monotonic() - began)
        found: dict[str | None, Reply] = {}
        now = time.time()
        for key, value in zip(keys, values, strict=True):
            entry = seal.entry(key, value, plan.reply)
            if entry is None:
                self._count("miss")
            elif not self._counts(entry, now):
                self._count("stale")
            else:
                self._count("hit")
                plan.positioned(entry.message).position = max(position, entry.position)
                found[key] = Reply(plan.told(entry.message))
        return found

    def _counts(self, entry: Entry, now: float) -> bool:
        body = entry.body
        if now >= body.read_at + body.seconds:
            return False
        return self._touched.still(entry.position, body.topics, read_at=body.read_at)

    def _count(self, outcome: str, number: int = 1) -> None:
        with self._count_lock:  # threads of the pool and the writer count at once
            self.outcomes[outcome] += number

    # --- writing

    def _remember(self, key: str, value: bytes, body: Body) -> None:
        if len(value) > LARGEST:
            return
        with self._known_lock:
            self._forget(key)
            self._known[key] = body.topics
            for topic in body.topics:
                self._by_topic.setdefault(topic, set()).add(key)
            while len(self._known) > PUT:
                self._forget(next(iter(self._known)))
        self._enqueue(key, value, int(body.seconds))

    def invalidate(self, position: int, topics: Iterable[str]) -> None:
        """Bury the answers that depend on topics which a commit has touched, so that other servers need not hear of it first."""
        with self._known_lock:
            keys = {key for topic in topics for key in self._by_topic.get(topic, ())}
            for key in keys:
                self._forget(key)
        tombstone = prefix(self._touched.log_id, position)
        for key in keys:
            self._enqueue(key, tombstone, TOMBSTONE_SECONDS)

    def _forget(self, key: str) -> None:
        for topic in self._known.pop(key, ()):
            keys = self._by_topic[topic]
            keys.discard(key)
            if not keys:
                del self._by_topic[topic]

    def _enqueue(self, key: str, value: bytes, seconds: int) -> None:
        try:
            self._queue.put_nowait((key, value, seconds))
        except queue.Full:
            self._count("dropped")

    def _write(self) -> None:
        while (item := self._queue.get()) is not None:
            if self._breaker.is_open:
                continue  # it would be as old as the outage is long
            key, value, seconds = item
            try:
                self._put(keys=[key], args=[value, seconds])
            except self._silences as error:
                self._fail(error)
            except self._failures as error:
                self._refused(error)

    def _refused(self, error: Exception) -> None:
        """Note that Redis answers and does not take a write: it is full, or a copy of another. What it has, it still gives."""
        self._count("refused")
        if self._refusal != str(error):
            self._refusal = str(error)
            log.warning("Redis does not take a write: %s", error)

    def _look(self) -> None:
        """Raise what a read raises at present."""
        self._redis.mget([_PROBE])

    def _fail(self, error: Exception) -> None:
        self._count("error")
        self._breaker.failed(error)


def _fit(key: str | None) -> str | None:
    return key if key is not None and len(key) <= LONGEST_KEY else None
