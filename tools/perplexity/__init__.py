"""Perplexity of caches on a real model: which are measured, running them, and the page made of it. See docs/accuracy.md."""
