"""The four incidents, each from the fault to the rest: what an operator sees, clicks, reads and does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from tests.drills.alarms import Alarms
from tests.drills.load import Load
from tests.drills.operator import Operator
from tests.drills.site import DrillSite
from tests.drills.stopwatch import ALARM, REPAIR, REST, Stopwatch
from tests.faults.documents import KINDS
from tests.support.pipeline import wait_for

#: Uploads behind a relay that is frozen.
BEHIND: Final = 30
POISONED: Final = 4
BACKLOG_SECONDS: Final = 8.0
ALARM_SECONDS: Final = 300.0
CLEAN: Final = ("nothing needs a person",)


@dataclass(frozen=True)
class Scene:
    """Who and what takes part."""

    site: DrillSite
    operator: Operator
    alarms: Alarms
    load: Load

    def begins(self, watch: Stopwatch) -> None:
        """The operator looks at Now, and nothing is known to any alarm; then the fault may happen."""
        self.load.flowing.set()
        self.alarms.forget()
        self.operator.look_at_now()
        watch.fault()

    def rings(self, watch: Stopwatch, *alerts: str) -> None:
        """Until the condition of one of these alerts holds."""
        with watch.aside():  # the operator is not held up by it
            wait_for(lambda: self.alarms.first(alerts), f"one of {alerts} holds", ALARM_SECONDS)
        name, at = self.alarms.first(alerts) or ("", 0.0)
        watch.alert, watch.alert_waits = name, self.alarms.waits[name]
        watch.marks[ALARM] = watch.since_fault(at)

    def is_over(self, watch: Stopwatch, name: str) -> None:
        """No more uploads come; all rests, and the console says so."""
        self.load.flowing.clear()
        watch.checked = self.site.comes_to_rest(self.load.taken)
        watch.mark(REST)
        self.operator.look_at_now()
        self.operator.waits_for(CLEAN)
        self.operator.picture(watch, name)


def ged_stopped(scene: Scene) -> Stopwatch:
    """The archive's server is down while documents are validated."""
    watch, operator = Stopwatch("GED stopped under load"), scene.operator
    scene.begins(watch)
    scene.site.stop_server("ged")
    scene.load.validating.set()
    operator.sees(watch, "the GED")
    operator.picture(watch, "drill-ged-now")
    operator.clicks(watch, operator.line("the GED"))
    operator.reads(watch, "for the GED", "server", "Its oldest document")
    operator.picture(watch, "drill-ged-consumer")
    scene.rings(watch, "DpjCircuitOpen", "DpjEventsHeld")
    scene.site.start_server("ged")
    watch.mark(REPAIR)
    scene.is_over(watch, "drill-ged-over")
    return watch


def poison_document(scene: Scene) -> Stopwatch:
    """Some files make the renditions fail for good."""
    watch, operator, kind = Stopwatch("Poison documents"), scene.operator, KINDS["truncated"]
    files = [kind.make(uuid4().hex) for _ in range(POISONED)]
    scene.begins(watch)
    scene.load.put_files(files, {"type": kind.type_code}, name=f"piece.{kind.suffix}", media_type=kind.media_type)
    operator.sees(watch, "dead letter")
    operator.picture(watch, "drill-poison-now")
    operator.clicks(watch, operator.line("dead letter"))
    operator.reads(watch, "What it means", "Document", "Redrive")
    operator.waits_for((f"{POISONED} open letters",), 60)
    operator.picture(watch, "drill-poison-letters")
    scene.rings(watch, "DpjDeadLetters")
    # One first: it comes back, so the file is the cause, and no outage.
    operator.confirms(operator.page.get_by_role("button", name="Redrive all"), canary=1)
    operator.waits_for(("Came back 1", "Came back\n1"), 120)
    operator.picture(watch, "drill-poison-canary")
    operator.look_at_now()
    operator.line("dead letter").click()
    operator.confirms(operator.page.get_by_role("button", name="Discard all"))
    operator.waits_for(("Nothing is left to do",))
    watch.mark(REPAIR)
    scene.is_over(watch, "drill-poison-over")
    return watch


def relay_frozen(scene: Scene) -> Stopwatch:
    """The only relay stops in the middle of its work, and keeps its lock until PostgreSQL ends its session."""
    watch, operator = Stopwatch(f"Relay frozen, {BEHIND} uploads behind it"), scene.operator
    scene.begins(watch)
    scene.site.freeze("relay")
    scene.load.put(BEHIND)
    operator.sees(watch, "relay does not answer")
    operator.clicks(watch, operator.line("relay does not answer"))
    operator.reads(watch, "In the outbox", "the relay publishes it")
    operator.picture(watch, "drill-relay-document")
    scene.rings(watch, "DpjProcessDown", "DpjOutboxStands", "DpjNoRelayLeads")
    # A minute later the rows themselves are a line.
    operator.look_at_now()
    operator.sees(watch, "for the relay")
    operator.picture(watch, "drill-relay-now")
    scene.site.restart("relay")
    watch.mark(REPAIR)
    scene.is_over(watch, "drill-relay-over")
    return watch


def kafka_wiped(scene: Scene) -> Stopwatch:
    """The broker's disk is lost with events on it that a worker has not read, and it starts again with nothing."""
    watch, operator, site = Stopwatch("Kafka's disk lost"), scene.operator, scene.site
    site.freeze("worker-notification")  # so that there are events that are published and not read
    scene.load.put(round(BACKLOG_SECONDS))
    wait_for(lambda: not site.pipeline.sql("SELECT 1 FROM outbox WHERE published_at IS NULL LIMIT 1"), "published", 60)
    scene.begins(watch)
    site.kill_server("kafka")
    site.thaw("worker-notification")
    site.wipe_server("kafka")
    site.start_server("kafka")
    operator.sees(watch, "its data is gone")
    operator.picture(watch, "drill-kafka-now")
    operator.clicks(watch, operator.line("its data is gone"))
    operator.reads(watch, "Kafka answers and lacks", "dpj topics create")
    scene.rings(watch, "DpjLagUnknown", "DpjKafkaAway", "DpjEventsLost")
    site.create_topics()
    operator.look_at_now()
    operator.line("Kafka has lost").wait_for(timeout=ALARM_SECONDS * 1000)
    operator.clicks(watch, operator.line("Kafka has lost"))
    operator.waits_for(("By consumer",))
    operator.picture(watch, "drill-kafka-lost")
    operator.confirms(operator.page.get_by_role("button", name="Publish lost events again"))
    operator.waits_for(("Nothing is left to do",))
    watch.mark(REPAIR)
    scene.is_over(watch, "drill-kafka-over")
    return watch


INCIDENTS: Final[Sequence[tuple[str, Callable[[Scene], Stopwatch]]]] = (
    ("ged", ged_stopped),
    ("poison", poison_document),
    ("relay", relay_frozen),
    ("kafka", kafka_wiped),
)
