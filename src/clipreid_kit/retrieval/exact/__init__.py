"""Exact nearest rows, certified: low-precision passes with proven bounds, then exact scores."""
