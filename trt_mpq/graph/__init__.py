"""ONNX graphs: checks at the door, edits, opsets, and what operators are."""
