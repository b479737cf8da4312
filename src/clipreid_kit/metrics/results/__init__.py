"""Results of evaluations: measures, confidence intervals, tables and files."""
