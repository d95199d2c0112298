"""The fake pycuda."""

VERSION = (2024, 1)
VERSION_TEXT = "2024.1"
