"""Walking along the chain to find which maps a difference makes suspect (claims 11 and 23).

From the last map before the scan backwards: the map is suspect, the blocks
that it wrote are taken out of what is left, and so on until nothing is left.
If the base image is reached, it is suspect too.
"""

from appliance.cdp.delta_map import DeltaMap, from_write, spans, up_to
from appliance.cdp.extents import Extents, extents, intersect, subtract
from appliance.cdp.history import History
from appliance.cdp.suspects import OPEN, Suspects, Suspicion


async def add(history: History, found: Extents, write: int) -> Suspects:
    """What is suspect, now that a scan as of `write` has found these different, nothing else said.

    What was suspect already is so twice, for it may have been written again since it was seen.
    """
    return history.chain.suspects.plus(*await _walk(history, found, write))


async def mark(history: History, revised: Extents, unknown: Extents, write: int) -> Suspects:
    """What is suspect, when a scan as of `write` found `revised` different and nothing else.

    An open suspicion ends with the map that wrote the block since it was seen;
    it is cleared where the block is right and was not written.  Of `unknown`
    the scan cannot tell: what it has not found different there stays suspect.
    """
    chain = history.chain
    marked = Suspects()
    for old in chain.suspects.suspicions():
        if old.to_write != OPEN:
            marked = marked.plus(old)
            continue
        left = old.blocks
        for delta_map in chain.maps_after(old.seen_write):
            if not left or delta_map.first_write > write:
                break
            rewritten = intersect(left, await _touched(history, delta_map, old.seen_write, write))
            marked = marked.plus(old._replace(blocks=rewritten, to_write=delta_map.last_write))
            left = subtract(left, rewritten)
        again = intersect(left, revised)
        marked = marked.plus(
            old._replace(blocks=again, seen_write=write),
            old._replace(blocks=intersect(subtract(left, again), unknown)),
        )
    new = await _walk(history, subtract(revised, marked.open), write)
    return Suspects().plus(*marked.plus(*new).suspicions())


async def _walk(history: History, left: Extents, write: int) -> list[Suspicion]:
    """From the last map before the scan backwards."""
    found: list[Suspicion] = []
    for delta_map in reversed(history.chain.maps_up_to(write)):
        if not left:
            break
        written = intersect(left, await _touched(history, delta_map, 0, write))
        found.append(Suspicion(written, delta_map.first_write, OPEN, write))
        left = subtract(left, written)
    return [*found, Suspicion(left, 0, OPEN, write)]


async def _touched(history: History, delta_map: DeltaMap, behind: int, write: int) -> Extents:
    """What the writes of a map behind one number and up to another have written."""
    rows = from_write(up_to(await history.rows(delta_map), write), behind + 1)
    return extents(*spans(rows))
