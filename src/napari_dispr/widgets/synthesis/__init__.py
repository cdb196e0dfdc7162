"""The window Balance classes."""
