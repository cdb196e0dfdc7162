"""Other methods behind the same question: a mask in, shapes on the model grid out. Knows no shape model."""
