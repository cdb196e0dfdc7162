"""The windows Balance classes and Synthesise annotated images."""
