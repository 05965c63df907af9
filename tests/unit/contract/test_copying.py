"""Limits of the copy, and what a worker reads of a contract that it has no file of."""

from pathlib import Path

import pytest

from alih.contract import load_engine
from alih.errors import Refused
from alih.model.contract import CopyLimits
from tests.unit.contract.shop import TEXT, loaded, refusal

DSNS = {"ALIH_SOURCE": "host=here", "ALIH_TARGET": "host=there"}
LIMITS = "copy: {workers: 4, rate_mb_per_s: 20, max_replica_lag_ms: 2000, max_target_latency_ms: 50}\n"


def test_no_limits_by_default(tmp_path: Path) -> None:
    assert loaded(tmp_path).copying == CopyLimits()
    assert CopyLimits() == CopyLimits(
        workers=2, rate_mb_per_s=None, max_replica_lag_ms=None, max_target_latency_ms=None
    )


def test_limits(tmp_path: Path) -> None:
    limits = CopyLimits(workers=4, rate_mb_per_s=20, max_replica_lag_ms=2000, max_target_latency_ms=50)
    assert loaded(tmp_path, LIMITS + TEXT).copying == limits


@pytest.mark.parametrize("limit", ["workers: 0", "rate_mb_per_s: 0", "max_replica_lag_ms: -1", "speed: 3"])
def test_a_limit_that_is_none(tmp_path: Path, limit: str) -> None:
    (said,) = refusal(tmp_path, f"copy: {{{limit}}}\n" + TEXT)
    assert said.startswith(f"alih.yaml:1: copy.{limit.partition(':')[0]}: ")


def test_a_worker_needs_two_dsns_and_no_other_secret(tmp_path: Path) -> None:
    whole = loaded(tmp_path, LIMITS + TEXT)
    engine = load_engine(whole.text, DSNS)
    assert (engine.source.dsn, engine.target.dsn) == ("host=here", "host=there")
    assert (engine.name, engine.tenant_entity, engine.copying) == (whole.name, whole.tenant_entity, whole.copying)
    assert engine.entities == whole.entities
    assert (engine.gateway, engine.operations, engine.rules) == (None, (), None)
    with pytest.raises(Refused, match="the environment has no ALIH_TARGET"):
        load_engine(whole.text, {"ALIH_SOURCE": "host=here"})
