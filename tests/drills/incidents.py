"""The four incidents, each from the fault to the rest: what an operator sees, clicks, reads and does."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tests.drills.alarms import Alarms
from tests.drills.load import Load
from tests.drills.operator import Operator
from tests.drills.site import DrillSite
from tests.drills.stopwatch import ALARM, REPAIR, REST, Stopwatch
from tests.support.pipeline import wait_for
from tests.support.refusing_servers import refusing_mail_server

#: Uploads behind a relay that is frozen.
BEHIND: Final = 30
POISONED: Final = 6
#: Of their letters, so many are redriven before the others.
CANARY: Final = 2
#: Uploads that are published when Kafka's disk is lost, and that a worker has not read.
UNREAD: Final = 8
#: The load flows before anything happens.
FLOWING_SECONDS: Final = 5.0
ALARM_SECONDS: Final = 300.0
#: Alerts that tell of an incident.
GED_ALERTS: Final = ("DpjCircuitOpen", "DpjEventsHeld")
POISON_ALERTS: Final = ("DpjDeadLetters",)
RELAY_ALERTS: Final = ("DpjProcessDown", "DpjOutboxStands", "DpjNoRelayLeads")
KAFKA_ALERTS: Final = ("DpjLagUnknown", "DpjKafkaAway", "DpjEventsLost")
CLEAN: Final = ("nothing needs a person",)


@dataclass(frozen=True)
class Scene:
    """Who and what takes part."""

    site: DrillSite
    operator: Operator
    alarms: Alarms
    load: Load

    def begins(self, watch: Stopwatch, alerts: tuple[str, ...]) -> None:
        """The operator looks at Now, where all is well, and no alert of these holds; then the fault may happen."""
        self.load.flowing.set()
        time.sleep(FLOWING_SECONDS)
        self.operator.look_at_now()
        self.operator.waits_for(("All is moving",))
        wait_for(lambda: not self.alarms.hold(alerts), f"none of {alerts} holds", ALARM_SECONDS)
        self.operator.look_at_now()
        self.alarms.forget()
        watch.fault()

    def rings(self, watch: Stopwatch, alerts: tuple[str, ...]) -> None:
        """Until the condition of one of these alerts holds."""
        with watch.aside():  # the operator is not held up by it
            wait_for(lambda: self.alarms.first(alerts), f"one of {alerts} holds", ALARM_SECONDS)
        name, at = self.alarms.first(alerts) or ("", 0.0)
        watch.alert, watch.alert_waits = name, self.alarms.waits[name]
        watch.marks[ALARM] = watch.since_fault(at)

    def is_over(self, watch: Stopwatch) -> None:
        """No more uploads come; all rests, and the console says so."""
        self.load.flowing.clear()
        watch.checked = self.site.comes_to_rest(self.load.taken)
        watch.mark(REST)
        self.operator.look_at_now()
        self.operator.waits_for(CLEAN)


def ged_stopped(scene: Scene) -> Stopwatch:
    """The archive's server is down while documents are validated."""
    watch, operator = Stopwatch("GED stopped under load"), scene.operator
    scene.begins(watch, GED_ALERTS)
    scene.site.servers.stop("ged")
    scene.load.validating.set()
    operator.sees(watch, "the GED")
    operator.picture(watch, "drill-ged-now")
    operator.clicks(watch, operator.line("the GED"))
    operator.reads(watch, "for the GED", "server", "Its oldest document")
    operator.picture(watch, "drill-ged-consumer")
    scene.rings(watch, GED_ALERTS)
    scene.site.servers.start("ged")
    watch.mark(REPAIR)
    scene.is_over(watch)
    return watch


def poison_documents(scene: Scene) -> Stopwatch:
    """A change of the mail server's directory: it refuses every recipient for good, so each document's mail is given up."""
    watch, operator, site = Stopwatch("Poison documents"), scene.operator, scene.site
    scene.begins(watch, POISON_ALERTS)
    scene.load.flowing.clear()
    site.servers.stop("smtp")
    with refusing_mail_server(site.servers.port("smtp")):
        scene.load.put(POISONED)
        operator.sees(watch, "open dead letter")
        operator.clicks(watch, operator.line("open dead letter"))
        operator.reads(watch, "mail_refused", "What it means", "a redrive sends them", scene.load.taken[-1])
        operator.picture(watch, "drill-poison-letters")
        operator.look_at_now()
        operator.line("open dead letter").wait_for()
        operator.picture(watch, "drill-poison-now")
        scene.rings(watch, POISON_ALERTS)
    site.servers.start("smtp")
    operator.line("open dead letter").click()
    operator.page.wait_for_url("**/dead-letters?**")
    operator.confirms(operator.page.get_by_role("button", name="Redrive all"), canary=CANARY)
    operator.waits_for(("Canary done",))
    operator.picture(watch, "drill-poison-canary")
    operator.page.get_by_role("button", name="Have the rest done").click()
    operator.waits_for(("Nothing is left to do",))
    watch.mark(REPAIR)
    scene.load.flowing.set()
    scene.is_over(watch)
    return watch


def relay_frozen(scene: Scene) -> Stopwatch:
    """The only relay stops in the middle of its work, and keeps its lock until PostgreSQL ends its session."""
    watch, operator = Stopwatch(f"Relay frozen, {BEHIND} uploads behind it"), scene.operator
    scene.begins(watch, RELAY_ALERTS)
    scene.site.freeze("relay")
    scene.load.put(BEHIND)
    operator.sees(watch, "relay does not answer")
    operator.clicks(watch, operator.line("relay does not answer"))
    operator.reads(watch, "In the outbox", "the relay publishes it")
    operator.picture(watch, "drill-relay-document")
    scene.rings(watch, RELAY_ALERTS)
    # A minute later the rows themselves are a line.
    operator.look_at_now()
    operator.sees(watch, "for the relay")
    operator.picture(watch, "drill-relay-now")
    scene.site.restart("relay")
    watch.mark(REPAIR)
    scene.is_over(watch)
    return watch


def kafka_wiped(scene: Scene) -> Stopwatch:
    """The broker's disk is lost with events on it that a worker has not read, and it starts again with nothing."""
    watch, operator, site = Stopwatch("Kafka's disk lost"), scene.operator, scene.site
    site.freeze("worker-notification")  # so that there are events that are published and not read
    scene.load.put(UNREAD)
    wait_for(lambda: not site.pipeline.sql("SELECT 1 FROM outbox WHERE published_at IS NULL LIMIT 1"), "published", 60)
    scene.begins(watch, KAFKA_ALERTS)
    site.servers.kill("kafka")
    site.thaw("worker-notification")
    site.servers.wipe("kafka")
    site.servers.start("kafka")
    operator.sees(watch, "its data is gone")
    operator.picture(watch, "drill-kafka-now")
    operator.clicks(watch, operator.line("its data is gone"))
    operator.reads(watch, "Kafka answers and lacks", "dpj topics create")
    scene.rings(watch, KAFKA_ALERTS)
    site.create_topics()
    operator.look_at_now()
    operator.line("Kafka has lost").wait_for(timeout=ALARM_SECONDS * 1000)
    operator.clicks(watch, operator.line("Kafka has lost"))
    operator.waits_for(("By consumer",))
    operator.picture(watch, "drill-kafka-lost")
    operator.confirms(operator.page.get_by_role("button", name="Publish lost events again"))
    operator.waits_for(("Nothing is left to do",))
    watch.mark(REPAIR)
    scene.is_over(watch)
    return watch


INCIDENTS: Final[Sequence[tuple[str, Callable[[Scene], Stopwatch]]]] = (
    ("ged", ged_stopped),
    ("poison", poison_documents),
    ("relay", relay_frozen),
    ("kafka", kafka_wiped),
)
