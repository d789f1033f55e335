"""What a site's operator does beside the faults, done in this process: the start of a command costs as much CPU as a round's checks.

The commands themselves are proven elsewhere. Where a command is what dies, or what races, the tests start it (``FaultSite.dpj``).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tests.support.own_loop import run_beside
from tests.support.pipeline import TENANT, Pipeline

if TYPE_CHECKING:
    from runtime.config.settings import Settings
    from runtime.wiring.site import Site

SUBJECT = "faults"

Result = TypeVar("Result")


class SiteOperator:
    """Acts with given settings (DPJ_...), from any thread, in an event loop or not; each act blocks until it is done."""

    def __init__(self, settings: Mapping[str, str], folder: Path) -> None:
        """``folder`` is private: it gets a file with the settings, passwords included."""
        self._file = folder / "operator.env"
        self._file.touch(0o600)
        self._file.write_text("".join(f"{name}={_quoted(value)}\n" for name, value in settings.items()), "utf-8")
        self._settings: Settings | None = None

    @property
    def settings(self) -> Settings:
        from runtime.config.settings import Settings

        if self._settings is None:
            self._settings = Settings(_env_file=self._file)  # pyright: ignore[reportCallIssue]
        return self._settings

    def create_key(self, tenant: str) -> None:
        """As ``dpj keys create --tenant``: nothing happens where the tenant has one."""
        from runtime.cli.operator_bounds import operator_name

        async def create(site: Site) -> None:
            await site.key_administration(operator_name()).create(tenant)

        self._run(create)

    def token(self, role: str, tenant: str, seconds: int) -> str:
        """As ``dpj token --role --tenant --ttl``."""
        from runtime.cli.administration import issue

        return issue(self.settings, [role], tenant=tenant, subject=SUBJECT, ttl=seconds)

    def reconcile(self, grace: float | None = None) -> dict[str, Any]:
        """As ``dpj reconcile --apply --ged-hours 0 --json``. ``grace``: seconds, if not as the settings say.

        Raises AssertionError where the command's exit status would not be 0.
        """
        from processors.reconcile.run import RepairMode
        from runtime.cli.reconcile import document_of

        async def run(site: Site) -> dict[str, Any]:
            return document_of(await site.reconcile(grace=grace, ged_hours=0).run(RepairMode.ALL, lambda _: None))

        found = self._run(run)
        assert found["clean"], found
        return found

    def _run(self, act: Callable[[Site], Coroutine[Any, Any, Result]]) -> Result:
        from runtime.wiring.site import Site

        async def done() -> Result:
            site = Site(self.settings)
            try:
                await site.codec.check()
                return await act(site)
            finally:
                await site.aclose()

        return run_beside(done())


class SitePipeline(Pipeline):
    """The pipeline of a fault site: keys and tokens come from its operator."""

    def __init__(self, settings: Mapping[str, str], operator: SiteOperator) -> None:
        super().__init__(settings)
        self._operator = operator

    def give_key(self, tenant: str) -> None:
        if tenant not in self._keyed:
            self._operator.create_key(tenant)
            self._keyed.add(tenant)

    def token(self, role: str, tenant: str = TENANT, seconds: int = 3600) -> str:
        return self._operator.token(role, tenant, seconds)


def _quoted(value: str) -> str:
    """As python-dotenv reads it: nothing is replaced between single quotes but their own escapes."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
