"""Turn published data sets, or the user's own text, into fairseq's binary format."""
