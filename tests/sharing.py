"""Which tests go to which of several processes."""

from __future__ import annotations

from xdist.scheduler import LoadFileScheduling

SAME_SHARDS = frozenset(
    f"tests/pools/test_{name}.py" for name in ("equal_bits", "tokens", "tables", "put_off", "lines")
)
"""Files whose tests go on with the shards of those before: started once, if one process has them all."""


class ByFile(LoadFileScheduling):
    """Give all tests of a file to one process, in the order in which they were collected."""

    def _split_scope(self, nodeid: str) -> str:
        scope = super()._split_scope(nodeid)
        return "same shards" if scope in SAME_SHARDS else scope
