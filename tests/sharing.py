"""Which tests go to which of several processes."""

from __future__ import annotations

from xdist.scheduler import LoadFileScheduling

SAME_SHARDS = frozenset(
    f"tests/pools/test_{name}.py" for name in ("equal_bits", "tokens", "tables", "put_off", "lines")
)
"""Files whose tests go on with the shards of those before: started once, if one process has them all."""

NOTHING_SHARED = frozenset(
    ("tests/pools/test_rewards.py", "tests/pools/test_start.py", "tests/runs/test_ray_cells.py")
)
"""Files of few and long tests, each of which starts processes of its own."""


class ByFile(LoadFileScheduling):
    """Give all tests of a file to one process, in the order in which they were collected."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        if file in SAME_SHARDS:
            return "same shards"
        return nodeid if file in NOTHING_SHARED else file
