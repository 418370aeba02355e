"""The pages that show an evaluation, and several side by side: each one file that needs nothing but itself.

`data.py` says what they are made of.
"""

from heed.scripts.report.comparison import write_comparison_page
from heed.scripts.report.page import write_report
from heed.scripts.report.tracing import Trace, TracedStep, trace_episode

__all__ = ["Trace", "TracedStep", "trace_episode", "write_comparison_page", "write_report"]
