"""What a query really reads, by PostgreSQL's own plan of a run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast


class Explaining:
    """Stands for the connections: runs a query and keeps its plan, with what each step really read."""

    def __init__(self, connection: Any) -> None:
        self.connected = connection
        self.nodes: list[dict[str, Any]] = []

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        yield self

    def transaction(self, **how: Any) -> Any:
        return self.connected.transaction(**how)

    async def execute(self, query: str) -> str:
        return cast("str", await self.connected.execute(query))

    async def fetch(self, query: str, *values: Any) -> list[Any]:
        plan = await self.connected.fetchval(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {query}", *values)
        waiting, self.nodes = [plan[0]["Plan"]], []
        while waiting:
            node = waiting.pop()
            self.nodes.append(node)
            waiting.extend(node.get("Plans", []))
        return []

    def check(self, most_rows: int) -> None:
        """No step reads a table from end to end, or looks at more rows than ``most_rows``."""
        kinds = {node["Node Type"] for node in self.nodes}
        assert "Seq Scan" not in kinds, kinds
        assert kinds & {"Index Scan", "Bitmap Index Scan"}, kinds
        looked = [node["Actual Rows"] + node.get("Rows Removed by Filter", 0) for node in self.nodes]
        assert max(looked) <= most_rows, (kinds, looked)
