"""Engines for GPUs, each imported only when asked for. Experimental: there was no GPU to run them on (docs/gpu.md)."""
