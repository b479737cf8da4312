"""``python -m examples.trainer.report RUNS... [--out FOLDER]``: gather runs into tables and pictures."""

from examples.report.gather import main

if __name__ == "__main__":
    raise SystemExit(main())
