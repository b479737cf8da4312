"""Reports of training runs: a run's folder and page, and tables and figures of several runs.

Nothing here knows a recipe: the functions take titles, settings as a plain mapping, numbers and
result objects, so that any training script can call them.
"""

from examples.report.console import epoch_line, flat, table
from examples.report.evaluation import Evaluation, Result
from examples.report.files import write_json
from examples.report.predictions import write_predictions
from examples.report.run_folder import open_run, write_history
from examples.report.run_report import write_run_report

__all__ = [
    "Evaluation",
    "Result",
    "epoch_line",
    "flat",
    "open_run",
    "table",
    "write_history",
    "write_json",
    "write_predictions",
    "write_run_report",
]
