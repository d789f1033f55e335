"""Sites of stacks that were never started: their ports are given, not looked for."""

from __future__ import annotations

from typing import Any

from deploy.native import site
from deploy.native.site import Profile, StackSite
from deploy.native.stack import PORTS


def site_of(profile: Profile, **identity: Any) -> StackSite:
    """The site of the stack "mine" in DPJ_HOME; ``identity``: what it has beside its ports."""
    made = site.load_or_create("mine", profile)
    made.identity |= {"ports": {name: 20_000 + 100 * i for i, name in enumerate(PORTS)}, **identity}
    made.save()
    return made
