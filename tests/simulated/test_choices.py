from itertools import product

import pytest

from appliance.simulated.choices import Script, every_script, seeded


def test_a_seed_repeats_itself() -> None:
    first, second = seeded(5), seeded(5)
    assert [first(10) for _ in range(50)] == [second(10) for _ in range(50)]


def test_every_path_is_visited_once() -> None:
    seen: list[tuple[int, ...]] = []
    for script in every_script():
        path = [script(2)]
        path += [script(3) for _ in range(path[0] + 1)]  # longer lives after some decisions
        seen.append(tuple(path))
    expected: list[tuple[int, ...]] = [(0, *rest) for rest in product(range(3))]
    expected += [(1, *rest) for rest in product(range(3), repeat=2)]
    assert seen == expected


def test_a_script_of_another_life_is_noticed() -> None:
    with pytest.raises(AssertionError, match="another life"):
        Script([3])(2)
