"""Ours against the other tools that quantize ONNX, on the same models, data, targets and machine, side by side.

Every peer has an environment of its own at pinned versions (`environments`), does its work in a process of its own
(`adapters`, which are the only files that run in those environments), is timed from outside (`measure`), and what it
delivers is judged by one judge (`judge`). A peer that does not install or run keeps its row, with its error.
"""
