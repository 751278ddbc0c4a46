"""Segments: what a checkpoint gave up is used again only after the next one is durable."""

from appliance.cdp.segments import Segments


def drained(count: int) -> Segments:
    """Two can be taken; a third one is kept for folds."""
    return Segments(count, range(count - 3))


def durable_checkpoint(segments: Segments) -> None:
    segments.checkpoint_durable(segments.begin_checkpoint())


def test_two_checkpoints_lie_between_giving_up_and_using_again() -> None:
    segments = drained(8)
    segments.release([3])
    assert (segments.free, segments.coming) == (2, 1)
    durable_checkpoint(segments)
    assert (segments.free, segments.coming) == (2, 1), "the slot before still names it"
    durable_checkpoint(segments)
    assert (segments.free, segments.coming) == (3, 0)
    assert [segments.take() for _ in range(4)] == [5, 6, 7, None]


def test_what_is_given_up_while_a_checkpoint_is_made_belongs_to_the_next() -> None:
    segments = drained(8)
    released = segments.begin_checkpoint()
    segments.release([3])
    segments.checkpoint_durable(released)
    durable_checkpoint(segments)
    assert segments.free == 2
    durable_checkpoint(segments)
    assert segments.free == 3


def test_what_a_failed_checkpoint_should_have_told_is_not_forgotten() -> None:
    segments = drained(8)
    segments.release([3])
    segments.release(segments.begin_checkpoint())
    assert segments.coming == 1
    durable_checkpoint(segments)
    durable_checkpoint(segments)
    assert segments.free == 3
