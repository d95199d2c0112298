"""Networks of the world, by kind: exported as their users would, and taken to engines."""
