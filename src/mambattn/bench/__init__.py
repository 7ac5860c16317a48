"""Benchmarks of the ops: checked against the definition first, then timed in turn in one process."""

from mambattn.bench.cases import CASES, ScanCase
from mambattn.bench.machine import machine
from mambattn.bench.measure import Measurement, WrongResultError, measure

__all__ = ["CASES", "Measurement", "ScanCase", "WrongResultError", "machine", "measure"]
