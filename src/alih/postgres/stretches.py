"""Where the messages of a log may be cut; pure.

A transaction that describes or empties a table may stop the stream. Then all before it is to be applied and nothing of
it, so a stretch of log is read from such a transaction on by itself, and none is begun before its end has come.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

_BEGIN, _COMMIT = b"BC"
_STOPPING = b"RT"  # messages that describe or empty a table


def whole(messages: Sequence[bytes], begun: bool) -> int:
    """How many of the messages belong to whole transactions, or to one that is `begun` and in hand already."""
    for place in reversed(range(len(messages))):
        kind = messages[place][0]
        if kind == _COMMIT:
            return place + 1
        if kind == _BEGIN:
            return place
    return len(messages) if begun else 0


def parted(messages: Sequence[bytes]) -> Iterator[tuple[Sequence[bytes], bool]]:
    """The messages, parted where a transaction begins that describes or empties a table, and whether a part begins with
    one: it may stop the stream, and what came before it is to be applied then."""
    begun, lonely = None, set[int]()
    for place, message in enumerate(messages):
        kind = message[0]
        if kind == _BEGIN:
            begun = place
        elif kind in _STOPPING and begun is not None:
            lonely.add(begun)
    for begin, end in pairwise(sorted({0, *lonely, len(messages)})):
        yield messages[begin:end], begin in lonely
