"""From the published archives to fairseq's binary format, by the published rules."""
