"""How often garbage is looked for."""

from __future__ import annotations

import gc

from millstream.runtime.memory import collect_rarely


def test_a_server_looks_for_young_garbage_less_often_and_for_old_garbage_as_often() -> None:
    before = gc.get_threshold()
    try:
        collect_rarely()
        assert gc.get_threshold()[0] > 4 * before[0]
        assert gc.get_threshold()[1:] == before[1:]
    finally:
        gc.set_threshold(*before)
