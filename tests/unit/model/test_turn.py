"""The message that turns an owner, there and back."""

from alih.model.projection import Direction
from alih.model.side import Side
from alih.model.turn import Turn


def test_it_is_read_as_it_was_written() -> None:
    turn = Turn('toko "Ä"', Side.TARGET, 7)
    assert Turn.decode(turn.encode().encode()) == turn


def test_a_stream_applies_what_the_side_owns_that_it_reads() -> None:
    to_target, to_source = Turn("1", Side.TARGET, 1), Turn("1", Side.SOURCE, 2)
    assert (to_target.applies(Direction.FORWARD), to_target.applies(Direction.REVERSE)) == (False, True)
    assert (to_source.applies(Direction.FORWARD), to_source.applies(Direction.REVERSE)) == (True, False)
