"""The GED: Apache Chemistry's in-memory CMIS 1.1 repository in Jetty. It forgets everything when it stops."""

from __future__ import annotations

import secrets
import shutil
from typing import ClassVar
from xml.sax.saxutils import escape

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12

from deploy.native import certificates, files, java_classes, prerequisites, programs
from deploy.native.cache import Recipe
from deploy.native.parts import http
from deploy.native.parts.base import NotReady, Part, java_program
from deploy.native.ports import LOOPBACK
from deploy.native.prerequisites import Prerequisite
from deploy.native.programs import Program
from deploy.native.site import StackSite
from deploy.native.supervisor import Command

REPOSITORY = "A1"
USER = "dpj"


class Ged(Part):
    name: ClassVar[str] = "ged"
    port: ClassVar[str] = "ged"
    recipe: ClassVar[Recipe | None] = Recipe("ged", "1.1.0", "jars", "maven/ged")
    patience: ClassVar[float] = 90.0

    def programs(self, site: StackSite) -> tuple[Program | None, ...]:
        return (programs.java(),)

    def lacks(self, site: StackSite) -> list[Prerequisite]:
        return [] if programs.java() else [prerequisites.JAVA]

    def url(self, site: StackSite) -> str:
        return f"{site.url('ged')}/cmis/browser"

    def prepare(self, site: StackSite) -> None:
        if site.tls:
            _prepare_tls(site)
        shutil.rmtree(site.data("ged"))  # temporary files of a former run; the documents were in memory
        files.private_folder(site.folder / "data" / "ged")

    def command(self, site: StackSite) -> Command:
        folder = site.data("ged")
        # The heap holds every document; it grows only as they come. A 60 MB one needs 200 MB while it arrives.
        java = (
            java_program(),
            "-XX:-UsePerfData",
            "-Xms64m",
            "-Xmx1536m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            *java_classes.options(self.name, self.built, java_program()),
        )
        quiet = (
            "-Dorg.eclipse.jetty.util.log.class=org.eclipse.jetty.util.log.StdErrLog",
            f"-Djava.io.tmpdir={folder}",
        )
        connector: tuple[str, ...] = ("--host", LOOPBACK, "--port", str(site.ports["ged"]))
        if site.tls:
            connector = ("--config", str(site.folder / "config" / "ged-jetty.xml"))
        runner = ("-jar", str(self.built / "jetty-runner.jar"), *connector)
        return Command((*java, *quiet, *runner, "--path", "/cmis", str(self.built / "webapp")), {}, folder)

    def ask(self, site: StackSite) -> None:
        repositories = http.get_json(self.url(site), certificates.trusting(site), auth=(USER, site.secret("ged")))
        if REPOSITORY not in repositories:
            raise NotReady(f"no repository {REPOSITORY}")


def _prepare_tls(site: StackSite) -> None:
    """A key store as Java reads it, under a password that is good until the next start, and Jetty's only connector."""
    ours, password = certificates.pair(site, Ged.name), secrets.token_urlsafe(24)
    key = serialization.load_pem_private_key(ours.key.read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError(type(key).__name__)
    store = pkcs12.serialize_key_and_certificates(
        b"ged",
        key,
        x509.load_pem_x509_certificate(ours.certificate.read_bytes()),
        None,
        serialization.BestAvailableEncryption(password.encode("ascii")),
    )
    config = site.folder / "config"
    files.write_private(config / "ged.p12", store)
    named = {"store": str(config / "ged.p12"), "password": password, "host": LOOPBACK, "port": str(site.ports["ged"])}
    files.write_private(
        config / "ged-jetty.xml", _JETTY.format_map({name: escape(value) for name, value in named.items()})
    )


#: As jetty-ssl.xml and jetty-https.xml of Jetty 9.4. Without the customizer the repository would name itself by http:// URLs; the
#: check of SNI that it can do is for servers with several names.
_JETTY = """<?xml version="1.0"?>
<!DOCTYPE Configure PUBLIC "-//Jetty//Configure//EN" "http://www.eclipse.org/jetty/configure_9_3.dtd">
<Configure id="Server" class="org.eclipse.jetty.server.Server">
  <New id="tls" class="org.eclipse.jetty.util.ssl.SslContextFactory$Server">
    <Set name="KeyStoreType">PKCS12</Set>
    <Set name="KeyStorePath">{store}</Set>
    <Set name="KeyStorePassword">{password}</Set>
    <Set name="IncludeProtocols"><Array type="String"><Item>TLSv1.3</Item></Array></Set>
  </New>
  <New id="http" class="org.eclipse.jetty.server.HttpConfiguration">
    <Call name="addCustomizer">
      <Arg><New class="org.eclipse.jetty.server.SecureRequestCustomizer"><Arg type="boolean">false</Arg></New></Arg>
    </Call>
  </New>
  <Call name="addConnector">
    <Arg>
      <New class="org.eclipse.jetty.server.ServerConnector">
        <Arg><Ref refid="Server"/></Arg>
        <Arg>
          <Array type="org.eclipse.jetty.server.ConnectionFactory">
            <Item>
              <New class="org.eclipse.jetty.server.SslConnectionFactory">
                <Arg><Ref refid="tls"/></Arg>
                <Arg>http/1.1</Arg>
              </New>
            </Item>
            <Item>
              <New class="org.eclipse.jetty.server.HttpConnectionFactory"><Arg><Ref refid="http"/></Arg></New>
            </Item>
          </Array>
        </Arg>
        <Set name="host">{host}</Set>
        <Set name="port">{port}</Set>
      </New>
    </Arg>
  </Call>
</Configure>
"""
