"""Prometheus, Alertmanager and the collector beside a stack: on request only, our rules, the stack's own places, nobody woken."""

from __future__ import annotations

import json
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

from deploy.native import settings_file, site, stack
from deploy.native.errors import StackError
from deploy.native.parts import ALL, EXTRAS, of
from deploy.native.parts.collector import LOGS, Collector, spans_file
from deploy.native.parts.observability import NAME, Alertmanager, Prometheus, addresses, silent_configuration
from deploy.native.parts.victorialogs import VictoriaLogs
from deploy.native.site import StackSite
from runtime.cli.pipeline import Extra, monitoring_of
from runtime.processes.health_ports import pipeline_processes_of, scrape_targets
from tests.support.alerting import FOLDER
from tests.support.settings import settings_of
from tests.support.stack_sites import site_of

BOTH = {"prometheus", "alertmanager"}
ALL_OF_IT = BOTH | {"collector", "victorialogs"}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StackSite:
    monkeypatch.setenv("DPJ_HOME", str(tmp_path))
    return site_of("embedded")


def test_one_word_brings_all_of_it_and_no_profile_has_them() -> None:
    without = {part.name for part in of("full", ())}
    assert not without & ALL_OF_IT
    assert {part.name for part in of("full", (NAME,))} - without == ALL_OF_IT


def test_both_commands_offer_the_same_words() -> None:
    assert {extra.value for extra in Extra} == set(EXTRAS)


def test_a_stack_that_runs_is_given_it_and_nothing_that_others_depend_on(here: StackSite) -> None:
    stack._add_extras(here, [NAME], ["kafka"])
    assert here.extras == {NAME}
    with pytest.raises(StackError, match="runs without redis: bring it down first"):
        stack._add_extras(here, [NAME, "redis"], ["kafka"])
    assert here.extras == {NAME}


def test_its_configuration_is_that_of_a_site_with_the_places_of_the_stack(here: StackSite) -> None:
    committed = yaml.safe_load((FOLDER / "prometheus.yml").read_text("utf-8"))
    made = Prometheus().configuration(here)
    assert made["alerting"]["alertmanagers"] == [{"static_configs": [{"targets": [here.address("alertmanager")]}]}]
    assert made["scrape_configs"][0].pop("file_sd_configs") == [{"files": [str(site.targets_file(here.folder))]}]
    assert made["rule_files"] == [str(FOLDER / name) for name in committed.pop("rule_files")]
    del made["rule_files"], made["alerting"], committed["alerting"], committed["scrape_configs"][0]["file_sd_configs"]
    assert made == committed


def test_targets_stay_where_they_are_written(here: StackSite) -> None:
    Prometheus().prepare(here)
    targets = site.targets_file(here.folder)
    assert json.loads(targets.read_text()) == []
    targets.write_text('[{"targets": ["127.0.0.1:1"]}]')
    Prometheus().prepare(here)
    assert "127.0.0.1:1" in targets.read_text()


def test_the_targets_of_a_machine_are_those_of_the_example() -> None:
    settings = settings_of(worker_port_base=9200, api_port=8000, console_port=8001)
    assert scrape_targets(settings) == yaml.safe_load((FOLDER / "targets.yml").read_text("utf-8"))


def test_a_process_without_a_port_is_no_target() -> None:
    none = settings_of(worker_port_base=0, api_metrics_port=0, console_port=0)
    assert scrape_targets(none) == []
    apart = settings_of(worker_port_base=0, api_metrics_port=9300, api_metrics_host="::1", console_port=0)
    assert scrape_targets(apart) == [{"targets": ["[::1]:9300"], "labels": {"process": "api"}}]


def test_routes_and_inhibition_are_kept_and_nobody_is_woken() -> None:
    text = (FOLDER / "alertmanager.yml").read_text("utf-8")
    of_site, local = yaml.safe_load(text), yaml.safe_load(silent_configuration(text))
    assert local["receivers"] == [{"name": one["name"]} for one in of_site.pop("receivers")]
    del local["receivers"]
    assert local == of_site
    with pytest.raises(StackError, match="no receivers"):
        silent_configuration("route: {}\n")


@pytest.mark.parametrize("part", [Prometheus(), Alertmanager()], ids=lambda part: part.name)
def test_it_listens_on_this_machine_alone(
    here: StackSite, part: Prometheus | Alertmanager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.native.parts.observability.shutil.which", lambda name: f"/bin/{name}")
    arguments = part.command(here).arguments
    assert f"--web.listen-address=127.0.0.1:{here.ports[part.name]}" in arguments
    assert not any("web-config" in one or "web.config" in one for one in arguments)
    here.identity["tls"] = True
    [web] = [one.partition("=")[2] for one in part.command(here).arguments if one.startswith("--web.config.file=")]
    assert json.loads(Path(web).read_text())["tls_server_config"]["min_version"] == "TLS13"
    assert addresses(here) == {}
    here.identity["extras"] = [NAME]
    assert addresses(here)[part.name] == f"https://{here.address(part.port)}"


def test_whoever_asks_is_told_where_they_are(here: StackSite) -> None:
    assert monitoring_of("mine") == {}
    assert monitoring_of("never-was") == {}
    stack._add_extras(here, [NAME], [])
    told = monitoring_of("mine")
    assert told.pop("spans") == str(spans_file(here))
    assert told.pop("logs") == f"http://127.0.0.1:{here.ports['victorialogs']}/select/vmui/"
    assert told == {name: f"http://127.0.0.1:{here.ports[name]}" for name in BOTH}


def test_its_processes_send_their_spans_to_the_collector(here: StackSite, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "DPJ_TRACING_ENDPOINT" not in settings_file.values(here)
    stack._add_extras(here, [NAME], [])
    assert settings_file.values(here)["DPJ_TRACING_ENDPOINT"] == f"http://{here.address('collector')}"
    monkeypatch.setattr(settings_file, "find_spec", lambda _: None)
    assert "DPJ_TRACING_ENDPOINT" not in settings_file.values(here)


def test_with_tls_the_collector_and_the_logs_have_it_too(here: StackSite) -> None:
    here.identity["tls"] = True
    made = Collector().configuration(here)
    [listening] = made["receivers"]["otlp"]["protocols"].values()
    assert listening["tls"]["min_version"] == made["exporters"]["otlphttp"]["tls"]["min_version"] == "1.3"
    assert Collector().url(here).startswith("https://127.0.0.1:")
    assert made["exporters"]["otlphttp"]["logs_endpoint"].startswith("https://127.0.0.1:")
    assert {"-tls", "-tlsMinVersion=TLS13"} <= set(VictoriaLogs().command(here).arguments)


def test_logs_of_every_process_are_read_and_no_servers(here: StackSite) -> None:
    ours = {f"{one.name}.log" for one in pipeline_processes_of(settings_of(console_port=8001))}
    theirs = {f"{part.name}.log" for part in ALL}
    read = {name for name in ours | theirs for one in LOGS if fnmatch(name, one)}
    assert read == ours


def test_what_is_missing_is_named_with_the_next_step(here: StackSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.native.parts.observability.shutil.which", lambda name: None)
    monkeypatch.setattr("deploy.native.prerequisites.shutil.which", lambda *_, **__: None)
    lacking = {item.package: item.next_step for part in of("embedded", (NAME,)) for item in part.lacks(here)}
    assert lacking["prometheus"] == "on Debian: apt-get install prometheus"
    assert lacking["prometheus-alertmanager"] == "on Debian: apt-get install prometheus-alertmanager"


def test_only_these_may_join_a_stack_that_runs() -> None:
    assert {part.name for part in ALL if part.late} == ALL_OF_IT
