"""The commands, one module each: `add` defines its options, the other functions run it."""
