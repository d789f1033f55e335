"""``dpj demo``: what the demonstration needs of this site, put together, and its answer."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runtime.cli.output import command_name, print_note, print_result
from runtime.errors import CommandFailed
from runtime.processes.health_ports import API
from runtime.processes.local_stack import bring_up

if TYPE_CHECKING:
    from deploy.native.site import Profile

TENANT: Final = "demo"
CHECKOUT: Final = Path(__file__).resolve().parent.parent.parent


def run(stack: str, profile: Profile | None, *, tls: bool | None, keep: bool, as_json: bool) -> None:
    """Raises CommandFailed if a proof does not hold."""
    began = time.monotonic()
    settings = bring_up(stack, profile, print_note, tls=tls, ready={API})
    from deploy.native import stack as native
    from deploy.native.files import home, private_folder
    from operations.api_client import ApiClient
    from operations.demo import main as demo
    from runtime.cli.administration import issue
    from runtime.cli.audit import verify
    from runtime.cli.checks import demo_site_of
    from runtime.config.transport import https_tls
    from runtime.processes.local import PipelineProcesses

    site = demo_site_of(settings, lambda: asyncio.run(verify(settings, None)))
    folder = home() / settings.stack_name

    def client(role: str) -> ApiClient:
        token = issue(settings, [role], tenant=TENANT, subject=f"demo-{role}")
        return ApiClient(site.api_url, token, tls=https_tls(settings, site.api_url))

    services = PipelineProcesses(settings)
    try:
        # Uploads are accepted while workers still start.
        with (
            ThreadPoolExecutor(1) as starting,
            client("portal") as portal,
            client("validator") as validator,
        ):
            others = {service.name for service in services.services} - {API}
            started = starting.submit(services.wait_until_ready, print_note, others)
            result = demo.run(
                site,
                portal,
                validator,
                samples=CHECKOUT / "samples" / "manifest.json",
                scratch=private_folder(folder / "scratch"),
                clock=lambda: time.monotonic() - began,
                check=lambda: started.result() if started.done() else None,
            )
            started.result()
    finally:
        if not keep:
            services.stop()
            native.down(settings.stack_name)
    failed = [proof for proof in result.proofs if not proof.holds]
    if not (as_json and failed):
        print_result(
            result.document(), demo.summary(result, site, stack, running=keep, dpj=command_name()), as_json=as_json
        )
    if keep:
        print_note(f"Everything is still running; stop it with: {command_name()} down --stack {stack}")
    if failed:
        raise CommandFailed(
            f"{len(failed)} of {len(result.proofs)} proofs failed; first: {failed[0].name}: {failed[0].detail}.",
            f"Logs are in {folder / 'logs'}.",
            code="proof_failed",
            document=result.document(),
        )
