"""The pages that show an evaluation, and several side by side: each one file that needs nothing but itself.

`data.py` says what they are made of.
"""

from heed.evaluation.explanation.tracing import Trace, TracedStep, trace_episode
from heed.evaluation.report.comparison import write_comparison_page
from heed.evaluation.report.page import write_report

__all__ = ["Trace", "TracedStep", "trace_episode", "write_comparison_page", "write_report"]
