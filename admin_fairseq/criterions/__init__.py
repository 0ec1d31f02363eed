"""Criterions with fairseq's numbers that take less time and memory."""
