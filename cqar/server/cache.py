"""Answers remembered in Redis, for servers that share one: read through, never trusted.

A value is `position (8 bytes, big-endian) | MessagePack of (log_id, topics, reply)`. It counts only if none of its topics was
touched since its position, which every server knows from its own commits and from the feed (`touched`): a value that an
invalidation missed, or that a slow writer put back, is asked for anew. So Redis can be frozen, dead, flushed or wrong.

Calls wait 0.1 s for Redis at the very most, and after a failure not at all: a breaker keeps Redis out of the way until it has
answered a ping in the background. Writes go through a thread of their own; what does not fit its queue is dropped.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar, cast

import msgspec
from google.protobuf.message import Message

from cqar.errors import CqarError
from cqar.server.touched import Touched

log = logging.getLogger(__name__)

K = TypeVar("K")

# Seconds. Redis answers in less than a millisecond, or it is not worth waiting for; a call may wait twice, to connect and to read.
TIMEOUT: Final = 0.05
PAUSE: Final = 0.5  # seconds between two pings of a Redis that has failed
WAITING: Final = 10_000  # writes
PUT: Final = 100_000  # keys that this server knows it has put
TOMBSTONE_SECONDS: Final = 10  # as long as the slowest read may take to put back what it read before

# Put unless there is a newer one already: positions compare as bytes.
_PUT: Final = """
if redis.call('GETRANGE', KEYS[1], 0, 7) > string.sub(ARGV[1], 1, 8) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1
"""


class _Body(msgspec.Struct, frozen=True, array_like=True):
    """What follows the position in a value."""

    log_id: str
    topics: tuple[str, ...]
    reply: bytes


class Reply(NamedTuple):
    """An answer in the form of the wire, and what it depends on."""

    message: Message
    topics: Iterable[str] = ()
    seconds: float = 0.0  # that it may be remembered for; 0: not at all


class Plan(NamedTuple, Generic[K]):
    """How the answers to one sort of question are remembered."""

    key: Callable[[K], str | None]  # in Redis; None: this one is not remembered
    reply: type[Message]
    holder: str = ""  # field of the reply that holds the position, if it is not the reply itself
    is_strict: bool = False  # no commit of any server may be missing, however recent

    def positioned(self, reply: Message) -> Any:
        """Give the message that holds the position of a reply."""
        return getattr(reply, self.holder) if self.holder else reply


Answer = Reply | CqarError


class Cache:
    """The memory in Redis. Thread-safe. No method raises for what Redis does."""

    def __init__(self, url: str, touched: Touched, *, head: Callable[[], tuple[str, int]]) -> None:
        """Connect at the first use; ValueError for a URL that is none. `head` asks the database where the registry is."""
        self.outcomes: Counter[str] = Counter()  # hit, miss, stale, skipped, error, dropped
        self._touched = touched
        self._head = head
        self._log_id = ""
        import redis  # noqa: PLC0415 - 0.1 s, and opentelemetry where it is installed: only for who has a Redis
        from redis.backoff import NoBackoff  # noqa: PLC0415
        from redis.retry import Retry  # noqa: PLC0415

        self._failures = (redis.RedisError, OSError)
        self._redis = redis.Redis.from_url(
            url,
            socket_timeout=TIMEOUT,
            socket_connect_timeout=TIMEOUT,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
        )
        self._put = self._redis.register_script(_PUT)
        self._broken = threading.Event()
        self._stopped = threading.Event()
        self._known: OrderedDict[str, tuple[str, ...]] = (
            OrderedDict()
        )  # keys that this server has put, with their topics
        self._by_topic: dict[str, set[str]] = {}
        self._known_lock = threading.Lock()
        self._queue: queue.Queue[tuple[str, bytes, int] | None] = queue.Queue(WAITING)
        self._writer = threading.Thread(target=self._write, name="cqar-cache", daemon=True)
        self._healer = threading.Thread(target=self._heal, name="cqar-cache-ping", daemon=True)

    def start(self, log_id: str) -> None:
        """Begin, for the registry with this log."""
        self._log_id = log_id
        self._writer.start()
        self._healer.start()

    def stop(self) -> None:
        """End; what is waiting to be written is dropped."""
        self._stopped.set()
        self._broken.set()
        self._queue.put(None)
        self._writer.join(1)
        self._healer.join(1)
        self._redis.close()

    @property
    def trouble(self) -> str | None:
        """Why Redis is not used at present, if it is not."""
        return "Redis does not answer" if self._broken.is_set() else None

    # --- reading

    def through(
        self, plan: Plan[K], questions: Sequence[K], read: Callable[[Sequence[K]], Sequence[Answer]]
    ) -> Sequence[Answer]:
        """Give the answer to each question, from Redis where it is true still, and else from `read`."""
        keys = [plan.key(question) for question in questions]
        found = self._get(plan, [key for key in keys if key is not None])
        missing = [question for question, key in zip(questions, keys, strict=True) if key not in found]
        others = iter(read(missing) if missing else ())
        answers: list[Answer] = []
        for key in keys:
            if key in found:
                answers.append(found[key])
                continue
            answer = next(others)
            answers.append(answer)
            if key is not None and isinstance(answer, Reply) and answer.seconds >= 1:
                self._remember(plan, key, answer)
        return answers

    def _get(self, plan: Plan[K], keys: list[str]) -> dict[str | None, Reply]:
        if not keys or self._broken.is_set():
            self.outcomes["skipped"] += len(keys)
            return {}
        position = self._touched.position
        if plan.is_strict:
            # Asked before Redis is: whatever is committed afterwards was not there when the question was asked.
            log_id, position = self._head()
            if log_id != self._log_id or position > self._touched.position:
                self.outcomes["skipped"] += len(keys)
                return {}
        try:
            values = cast("list[bytes | None]", self._redis.mget(keys))
        except self._failures as error:
            self._fail(error)
            return {}
        found: dict[str | None, Reply] = {}
        for key, value in zip(keys, values, strict=True):
            entry = self._body(value)
            if entry is None:
                self.outcomes["miss"] += 1
            elif not self._touched.still(entry[0], entry[1].topics):
                self.outcomes["stale"] += 1
            else:
                self.outcomes["hit"] += 1
                message = plan.reply.FromString(entry[1].reply)
                plan.positioned(message).position = max(position, entry[0])
                found[key] = Reply(message)
        return found

    def _body(self, value: bytes | None) -> tuple[int, _Body] | None:
        """Decode a value; None for a tombstone, one of another log, and anything that is not ours."""
        if value is None or len(value) <= 8:
            return None
        try:
            body = msgspec.msgpack.decode(value[8:], type=_Body)
        except msgspec.DecodeError:
            return None
        return (int.from_bytes(value[:8], "big"), body) if body.log_id == self._log_id else None

    # --- writing

    def _remember(self, plan: Plan[K], key: str, answer: Reply) -> None:
        topics = tuple(answer.topics)
        with self._known_lock:
            self._forget(key)
            self._known[key] = topics
            for topic in topics:
                self._by_topic.setdefault(topic, set()).add(key)
            while len(self._known) > PUT:
                self._forget(next(iter(self._known)))
        position: int = plan.positioned(answer.message).position
        body = msgspec.msgpack.encode(_Body(self._log_id, topics, answer.message.SerializeToString()))
        self._enqueue(key, position.to_bytes(8, "big") + body, int(answer.seconds))

    def invalidate(self, position: int, topics: Iterable[str]) -> None:
        """Bury the answers that depend on topics which a commit has touched, so that other servers need not hear of it first."""
        with self._known_lock:
            keys = {key for topic in topics for key in self._by_topic.get(topic, ())}
            for key in keys:
                self._forget(key)
        for key in keys:
            self._enqueue(key, position.to_bytes(8, "big"), TOMBSTONE_SECONDS)

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
            self.outcomes["dropped"] += 1

    def _write(self) -> None:
        while (item := self._queue.get()) is not None:
            if self._broken.is_set():
                continue  # it would be as old as the outage is long
            key, value, seconds = item
            try:
                self._put(keys=[key], args=[value, seconds])
            except self._failures as error:
                self._fail(error)

    # --- the breaker

    def _fail(self, error: Exception) -> None:
        self.outcomes["error"] += 1
        if not self._broken.is_set():
            self._broken.set()
            log.warning("Redis is not used until it answers again: %s", type(error).__name__)

    def _heal(self) -> None:
        while not self._stopped.is_set():
            self._broken.wait()
            if self._stopped.wait(PAUSE):
                return
            try:
                self._redis.ping()
            except self._failures:
                continue
            if not self._stopped.is_set():
                self._broken.clear()
                log.info("Redis answers again")
