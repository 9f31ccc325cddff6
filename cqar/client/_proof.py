"""What a stream at a broker must prove before a follower believes it: that its messages follow the follower's token.

The server itself checks a token before it says a word. A stream cannot: it holds one history, possibly another one than the
follower's, with its beginning gone and its end behind. So each message names the marks that it goes from and to, and `Proof` takes
it only where it fits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cqar import broker
from cqar.errors import InvalidError, PositionExpiredError
from cqar.model import FeedToken
from cqar.v1 import types_pb2


def expired(token: FeedToken) -> PositionExpiredError:
    """Make the error of a stream that no longer holds what follows a token."""
    return PositionExpiredError(
        f"the stream no longer holds what follows position {token.position}; load a snapshot", position=token.position
    )


def mismatch(why: str, token: FeedToken) -> PositionExpiredError:
    """Make the error of a stream of another history than a token's."""
    return PositionExpiredError(
        f"{why}; load a snapshot", reason="LOG_MISMATCH", log_id=token.log_id, position=token.position
    )


class Marks:
    """What the headers of a message say; InvalidError if that cannot be."""

    def __init__(self, headers: Mapping[str, str] | None) -> None:
        told = headers or {}
        self.session = told.get(broker.SESSION, "")
        self.log_id = told.get(broker.LOG, "")
        self.after = broker.marked(self.log_id, told.get(broker.AFTER, ""))
        self.upto = broker.marked(self.log_id, told.get(broker.UPTO, ""))
        number, _, of = told.get(broker.PART, "1/1").partition("/")
        if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
            raise InvalidError(f"{number}/{of} is no part", reason="PART", field="part")
        self.number, self.of = int(number), int(of)


class Proof:
    """How far a stream has been proved. `at` is where the follower is."""

    def __init__(self, at: FeedToken) -> None:
        self.at = at
        self.end: FeedToken | None = None  # of what the stream has told; it may lag behind the follower
        # Whether `at` is a place of the history that the stream tells: the beginning of a log is one of any.
        self.holds = at.position == 0
        self._parts: list[bytes] = []
        self._next: tuple[FeedToken, FeedToken, int, int, int] | None = None

    def whole(self, marks: Marks, sequence: int, data: bytes) -> bytes | None:
        """Take a message or a part of one; give the message when it is whole.

        What is left of a publisher that died in the middle is dropped: the next one tells it again from the first part on.
        """
        if marks.number == 1:
            self._parts.clear()
        elif (marks.after, marks.upto, marks.of, marks.number, sequence) != self._next:
            raise expired(self.at)  # parts are gone that no one tells again
        self._parts.append(data)
        self._next = (marks.after, marks.upto, marks.of, marks.number + 1, sequence + 1)
        if marks.number < marks.of:
            return None
        message = b"".join(self._parts)
        self._parts.clear()
        return message

    def take(self, marks: Marks, batches: Sequence[types_pb2.Batch]) -> list[types_pb2.Batch]:
        """Give the batches of the next message that the follower does not have yet.

        After a gap that is those beyond it, and nothing has moved: who applies batches sees the gap. Raises PositionExpiredError.
        """
        at, after, upto = self.at, marks.after, marks.upto
        if marks.log_id != at.log_id:
            raise mismatch("the stream is of another log: the database was replaced", at)
        positions = [batch.position for batch in batches]
        if not batches or positions != list(range(after.position + 1, upto.position + 1)):
            raise mismatch("a message of the stream holds other batches than it says", at)
        if self.end is not None and after != self.end and after.position <= self.end.position:
            raise mismatch("the stream goes back, or on from another history", at)
        if after.position > at.position:
            if self.end is None:
                raise expired(at)
            return list(batches)
        chains = {after.position: after.chain, **{batch.position: batch.chain for batch in batches}}
        if chains[upto.position] != upto.chain or chains.get(at.position, at.chain) != at.chain:
            raise mismatch("the history up to this position is another one", at)
        self.end = upto
        if upto.position < at.position:
            return []
        self.at, self.holds = upto, True
        return [batch for batch in batches if batch.position > at.position]
