"""Paired sequential tests: does a plan keep the required score, told from as few evaluation samples as possible?

The question is about the finite evaluation set: is the plan's score on all N samples at least `required`? FP32's
numbers per sample are all known beforehand, so the plan is compared with FP32 on the same samples, which are drawn
without replacement in a seeded random order (data may be sorted by class). A test looks at growing portions.

`betting.py` is for scores that are means of bounded scores per sample: its error level holds for every evaluation set
and however often it looks. `bootstrap.py` is for the others, correlations say: its error level holds asymptotically.
No module here reads, writes or runs anything.
"""

from trt_mpq.evaluate.sequential.base import PairedTest
from trt_mpq.evaluate.sequential.betting import BettingTest
from trt_mpq.evaluate.sequential.bootstrap import BootstrapTest
from trt_mpq.evaluate.sequential.schedule import Schedule, data_order, growing_portions

__all__ = ["BettingTest", "BootstrapTest", "PairedTest", "Schedule", "data_order", "growing_portions"]
