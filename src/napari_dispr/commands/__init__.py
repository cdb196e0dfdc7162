"""The commands, one module a verb: `add` gives it its options, the rest runs it."""
