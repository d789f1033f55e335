"""The full pipeline as real processes on the session's stack; they end with these tests, whatever happened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from deploy.native import stack as native
from tests.support.pipeline import Pipeline
from tests.support.trace_collector import TraceCollector, collecting


@pytest.fixture(scope="package")
def collector(stack: Mapping[str, str]) -> Iterator[TraceCollector]:
    """What every process of the pipeline sends its spans to; every trace is recorded."""
    name = f"{stack['DPJ_STACK_NAME']}-traces"
    with collecting(name) as running:
        yield running
    native.down(name, wipe=True)


@pytest.fixture(scope="package")
def running(stack: Mapping[str, str], collector: TraceCollector) -> Iterator[Pipeline]:
    pipeline = Pipeline(stack, {"DPJ_TRACING_ENDPOINT": collector.url, "DPJ_TRACING_RATIO": "1"})
    try:
        pipeline.up()
        yield pipeline
    finally:
        pipeline.close()
        pipeline.stop()
    assert not {"api", "relay"} & pipeline.pids().keys()


@pytest.fixture
def pipeline(running: Pipeline) -> Iterator[Pipeline]:
    """The pipeline with all its processes; what a test ended is started again after it."""
    yield running
    if running.ended:
        running.up()
