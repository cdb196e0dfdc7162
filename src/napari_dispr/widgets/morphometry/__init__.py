"""The window Morphometry."""
