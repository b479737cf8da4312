"""Result objects of evaluations: measures, confidence intervals, tables and files."""
