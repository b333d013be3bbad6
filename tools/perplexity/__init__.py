"""Perplexity of caches on real models: the rows to measure, the runs, and the report. See docs/accuracy.md."""
