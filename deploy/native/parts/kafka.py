"""Apache Kafka: one KRaft node, broker and controller in one process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from deploy.native import certificates, files, java_classes, prerequisites, programs
from deploy.native.cache import Recipe
from deploy.native.parts import toxiproxy
from deploy.native.parts.base import BRIEF, QUESTION_SECONDS, NotReady, Part, java_program, run_tool, write_config
from deploy.native.ports import LOOPBACK
from deploy.native.prerequisites import Prerequisite
from deploy.native.programs import Program
from deploy.native.site import StackSite
from deploy.native.supervisor import Command

FORMAT_SECONDS = 60.0
#: A group that nobody is in. The first question about any group has the broker create the topic in which groups are kept.
ASKED_GROUP = "dpj.ready"
NODE = 1


class Kafka(Part):
    name: ClassVar[str] = "kafka"
    port: ClassVar[str] = "kafka"
    recipe: ClassVar[Recipe | None] = Recipe("kafka", "4.1.0", "jars", "maven/kafka")

    def programs(self, site: StackSite) -> tuple[Program | None, ...]:
        return (programs.java(),)

    def lacks(self, site: StackSite) -> list[Prerequisite]:
        return [] if programs.java() else [prerequisites.JAVA]

    def prepare(self, site: StackSite) -> None:
        config = site.folder / "config"
        if site.tls:
            ours = certificates.pair(site, self.name)
            files.write_private(_key_store(site), ours.key.read_text("ascii") + ours.certificate.read_text("ascii"))
        write_config(config / "kafka.properties", _properties(site))
        write_config(config / "kafka-log4j2.properties", _LOGGING)
        if not (site.data("kafka") / "meta.properties").exists():
            java = _java(self.built, "-XX:TieredStopAtLevel=1", "-Xmx128m")
            options = (
                f"--cluster-id={site.identity['kafka_cluster']}",  # one word: the id may begin with a hyphen
                "--config",
                str(config / "kafka.properties"),
            )
            command = Command((*java, "kafka.tools.StorageTool", "format", *options), {}, site.data("kafka"))
            run_tool(site, self.name, command, FORMAT_SECONDS)

    def command(self, site: StackSite) -> Command:
        config = site.folder / "config"
        logging = f"-Dlog4j2.configurationFile={config / 'kafka-log4j2.properties'}"
        # No -Dcom.sun.management.*: a JMX agent would listen on every address of the machine.
        collector = ("-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20")
        if os.environ.get(BRIEF):
            # What the second compiler would win in minutes is less than what it costs.
            collector = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
        classes = java_classes.options(self.name, self.built, java_program())
        java = _java(self.built, "-Xms256m", "-Xmx512m", *collector, *classes, logging)
        return Command((*java, "kafka.Kafka", str(config / "kafka.properties")), {}, site.data("kafka"))

    def ask(self, site: StackSite) -> None:
        silent: dict[str, str | int | float | bool] = {
            "bootstrap.servers": site.address("kafka"),
            "log_level": 0,
            "socket.connection.setup.timeout.ms": 2000,
            **certificates.for_librdkafka(site),
        }
        client = AdminClient(silent, logger=_Mute())
        try:
            brokers = client.list_topics(timeout=QUESTION_SECONDS).brokers
        except KafkaException as error:
            raise NotReady(f"the broker does not answer yet ({error.args[0].name()})") from None
        if NODE not in brokers:
            raise NotReady("the broker is not registered yet")
        # By a consumer's question: librdkafka 2.12 ends the process (abort, segmentation fault) when an administrator's question to a
        # group's coordinator is under way while the broker goes away.
        consumer = Consumer({**silent, "group.id": ASKED_GROUP}, logger=_Mute())
        try:
            consumer.committed([TopicPartition(ASKED_GROUP, 0)], timeout=QUESTION_SECONDS)
        except KafkaException as error:
            raise NotReady(f"its group coordinator does not answer yet ({error.args[0].name()})") from None
        finally:
            consumer.close()


class _Mute:
    """librdkafka reports every refused connection while the broker starts; the outcome is what counts."""

    def log(self, *_: object, **__: object) -> None:
        pass


def _java(built: Path, *flags: str) -> list[str]:
    # UsePerfData would leave a file readable by others in /tmp.
    return [java_program(), "-XX:-UsePerfData", "-Djava.awt.headless=true", *flags, "-cp", f"{built / 'libs'}/*"]


def _key_store(site: StackSite) -> Path:
    return site.folder / "config" / "kafka-keystore.pem"


def _tls(site: StackSite) -> dict[str, str | int]:
    """Key and trust in PEM (KIP-651), for clients and for the broker's own way to its controller alike."""
    return {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(_key_store(site)),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(certificates.authority_file(site)),
        "ssl.protocol": "TLSv1.3",
        "ssl.enabled.protocols": "TLSv1.3",
    }


def _properties(site: StackSite) -> dict[str, str | int]:
    broker, controller = site.address("kafka"), site.address("kafka_controller")
    spoken = "SSL" if site.tls else "PLAINTEXT"  # the listener's name is its protocol's
    listeners, advertised = f"{spoken}://{broker},CONTROLLER://{controller}", f"{spoken}://{broker}"
    if toxiproxy.NAME in site.extras:
        # A client goes on to the address that it is told: who came through the proxy is told the proxy's.
        listeners += f",PROXIED://{site.address('kafka_proxied')}"
        advertised += f",PROXIED://{LOOPBACK}:{toxiproxy.listening_port(site, 'kafka')}"
    return {
        "process.roles": "broker,controller",
        "node.id": NODE,
        "controller.quorum.voters": f"{NODE}@{controller}",
        "listeners": listeners,
        "advertised.listeners": advertised,
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": ",".join(f"{name}:{spoken}" for name in (spoken, "CONTROLLER", "PROXIED")),
        "inter.broker.listener.name": spoken,
        **(_tls(site) if site.tls else {}),
        "log.dirs": str(site.data("kafka")),
        "auto.create.topics.enable": "false",
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 1000,  # fault tests don't wait as long as a cluster has to for a member that died
        # One node: nothing can be replicated. Few partitions of internal topics start and rebalance sooner.
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 8,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 4,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "share.coordinator.state.topic.num.partitions": 4,
        # The default is a quarter of the heap given here.
        "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
    }


_LOGGING: dict[str, str | int] = {
    "status": "warn",
    "appender.out.type": "Console",
    "appender.out.name": "OUT",
    "appender.out.layout.type": "PatternLayout",
    "appender.out.layout.pattern": "[%d] %p %m (%c)%n",
    "rootLogger.level": "warn",
    "rootLogger.appenderRef.out.ref": "OUT",
    "logger.server.name": "kafka.server.KafkaRaftServer",
    "logger.server.level": "info",
}
