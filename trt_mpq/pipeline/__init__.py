"""The run: one file per stage of the flow, and nothing that computes."""
