"""The full pipeline as real processes on the session's stack; they end with these tests, whatever happened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from tests.support.otlp_receiver import OtlpReceiver
from tests.support.pipeline import Pipeline


@pytest.fixture(scope="package")
def collector() -> Iterator[OtlpReceiver]:
    """What every process of the pipeline sends its spans to; every trace is recorded."""
    receiver = OtlpReceiver()
    yield receiver
    receiver.close()


@pytest.fixture(scope="package")
def running(stack: Mapping[str, str], collector: OtlpReceiver) -> Iterator[Pipeline]:
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
