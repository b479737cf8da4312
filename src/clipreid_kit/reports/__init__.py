"""Reports of training runs: a run's folder and page, and tables and figures of several runs.

The functions take titles, settings as a plain mapping, numbers and result objects, so that any
training script can call them. Pages and figures need jinja2 and matplotlib
(``pip install clipreid_kit[report]``), which are imported when one is written.
"""

from clipreid_kit.reports._table_formats import TableFormat
from clipreid_kit.reports.comparison_table import comparison_table
from clipreid_kit.reports.console import epoch_line, flat, results_table
from clipreid_kit.reports.cross_domain import cross_domain_table
from clipreid_kit.reports.embedding_map_page import embedding_map_page, sample_identities
from clipreid_kit.reports.errors_page import errors_page
from clipreid_kit.reports.evaluation import Evaluation, Result
from clipreid_kit.reports.features import read_features, write_features
from clipreid_kit.reports.frozen_baseline import verdict
from clipreid_kit.reports.gather import gather_runs
from clipreid_kit.reports.json_files import read_object, write_json
from clipreid_kit.reports.leaderboard import leaderboard_page
from clipreid_kit.reports.occlusion import occlusion_curves, occlusion_task
from clipreid_kit.reports.predictions import write_predictions
from clipreid_kit.reports.result_file import ResultFile, read_result_file, write_result_file
from clipreid_kit.reports.retrieval_errors import RetrievalError, retrieval_errors
from clipreid_kit.reports.run_comparison import compare_runs
from clipreid_kit.reports.run_folder import holds_run, open_run, write_history
from clipreid_kit.reports.run_lock import RunLock
from clipreid_kit.reports.run_pages import write_error_pages, write_map_pages
from clipreid_kit.reports.run_report import write_run_report

__all__ = [
    "Evaluation",
    "Result",
    "ResultFile",
    "RetrievalError",
    "RunLock",
    "TableFormat",
    "compare_runs",
    "comparison_table",
    "cross_domain_table",
    "embedding_map_page",
    "epoch_line",
    "errors_page",
    "flat",
    "gather_runs",
    "holds_run",
    "leaderboard_page",
    "occlusion_curves",
    "occlusion_task",
    "open_run",
    "read_features",
    "read_object",
    "read_result_file",
    "results_table",
    "retrieval_errors",
    "sample_identities",
    "verdict",
    "write_error_pages",
    "write_features",
    "write_history",
    "write_json",
    "write_map_pages",
    "write_predictions",
    "write_result_file",
    "write_run_report",
]
