"""What a run keeps: stages, the store that makes them once, files that are whole or absent."""
