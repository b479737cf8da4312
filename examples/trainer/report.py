"""``python -m examples.trainer.report RUNS...``: gather runs into tables and figures."""

from examples.report.gather import main

if __name__ == "__main__":
    raise SystemExit(main())
