"""The window Compare members."""
