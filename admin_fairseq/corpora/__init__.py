"""From published archives or your own text to fairseq's binary format."""
