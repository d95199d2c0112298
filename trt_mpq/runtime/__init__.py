"""Runtimes: the only place that names the libraries which execute a graph."""

import os

# ONNX Runtime (from 1.32 on) keeps a device id in the home folder and reports home; read when it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
