"""Benchmarks of the ops: checked against the definition first, then timed in turn in one process."""

from mambattn.bench.cases import CASES, Case
from mambattn.bench.machine import machine
from mambattn.bench.measure import Measurement, WrongResultError, measure
from mambattn.bench.suite import run

__all__ = ["CASES", "Case", "Measurement", "WrongResultError", "machine", "measure", "run"]
