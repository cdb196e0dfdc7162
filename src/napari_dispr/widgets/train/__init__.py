"""The window Train a shape model."""
