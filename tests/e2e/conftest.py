"""The full pipeline as real processes on the session's stack; they end with these tests, whatever happened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from tests.support.pipeline import Pipeline


@pytest.fixture(scope="package")
def running(stack: Mapping[str, str]) -> Iterator[Pipeline]:
    pipeline = Pipeline(stack)
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
