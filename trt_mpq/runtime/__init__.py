"""Runtimes: the only place that names the libraries which execute a graph."""
