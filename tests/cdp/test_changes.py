"""The watch on the journal, against a set of single sectors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_mock import MockerFixture

from appliance.cdp import changes
from appliance.cdp.changes import Changes
from appliance.cdp.extents import Extents
from appliance.cdp.format import ENTRY_DTYPE
from appliance.cdp.tasks import Task
from appliance.simulated.world import World

SECTORS = 64

records = st.lists(
    st.lists(st.tuples(st.integers(0, SECTORS - 1), st.integers(1, 12)), min_size=1, max_size=6),
    max_size=12,
)


@pytest.fixture(autouse=True, scope="module")
def merged_often(module_mocker: MockerFixture) -> None:
    module_mocker.patch.object(changes, "CHUNK", 4 * ENTRY_DTYPE.itemsize)


def packed(record: list[tuple[int, int]]) -> bytes:
    return np.array([(start, 0, 1, length, 0) for start, length in record], ENTRY_DTYPE).tobytes()


def sectors(found: Extents) -> set[int]:
    pairs = zip(found.starts.tolist(), found.ends.tolist(), strict=True)
    return {sector for start, end in pairs for sector in range(start, end)}


@given(records, st.integers(0, SECTORS), st.integers(1, SECTORS), st.data())
def test_it_knows_every_sector_at_any_time(
    records: list[list[tuple[int, int]]], first: int, count: int, data: st.DataObject
) -> None:
    """Before, while and after it merges what it was told, beside the loop."""
    world = World(1)
    watch = Changes(world, lambda changes: None)
    known: set[int] = set()
    for record in records:
        watch.add(packed(record))
        known |= {sector for start, length in record for sector in range(start, start + length)}
        wanted = {sector for sector in known if first <= sector < first + count}
        assert sectors(watch.within(first, first + count)) == wanted
        if data.draw(st.booleans()):
            world.step()
            assert sectors(watch.within(first, first + count)) == wanted
    printed = str(watch)
    found = world.run_until(Task(watch.all()))
    assert sectors(found) == known
    assert printed == str(watch) == str(found)
    assert watch.count == len(found.starts)
