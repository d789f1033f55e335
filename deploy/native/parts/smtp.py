"""The mail server: receives everything, delivers into one Maildir."""

from __future__ import annotations

import os
import smtplib
import sys
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

from deploy.native import certificates
from deploy.native.files import CHECKOUT
from deploy.native.parts.base import QUESTION_SECONDS, NotReady, Part
from deploy.native.ports import LOOPBACK
from deploy.native.site import StackSite
from deploy.native.supervisor import Command


class Smtp(Part):
    name: ClassVar[str] = "smtp"
    port: ClassVar[str] = "smtp"

    def version(self, site: StackSite) -> str:
        return version("aiosmtpd")

    def maildir(self, site: StackSite) -> Path:
        return site.data("smtp") / "maildir"

    def command(self, site: StackSite) -> Command:
        arguments = ["-m", "deploy.native.smtp_receiver", site.address("smtp"), str(self.maildir(site))]
        if site.tls:
            ours = certificates.pair(site, self.name)
            arguments += [str(ours.certificate), str(ours.key)]
        path = os.pathsep.join([str(CHECKOUT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]).rstrip(os.pathsep)
        return Command((sys.executable, *arguments), {"PYTHONPATH": path}, site.data("smtp"))

    def ask(self, site: StackSite) -> None:
        try:
            with self._reached(site) as client:
                code, _ = client.noop()
        except (smtplib.SMTPException, OSError) as error:
            raise NotReady(type(error).__name__) from None
        if code != 250:  # RFC 5321: "requested mail action okay"
            raise NotReady(f"answers {code}")

    def _reached(self, site: StackSite) -> smtplib.SMTP:
        place, tls = (LOOPBACK, site.ports["smtp"], "localhost"), certificates.trusting(site)
        if tls is None:
            return smtplib.SMTP(*place, timeout=QUESTION_SECONDS)
        return smtplib.SMTP_SSL(*place, timeout=QUESTION_SECONDS, context=tls)
