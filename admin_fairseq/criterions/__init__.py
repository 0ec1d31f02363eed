"""Criterions that compute the same as fairseq's in less time and memory."""
