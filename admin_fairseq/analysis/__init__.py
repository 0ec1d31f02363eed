"""Measurements of a transformer from outside: numbers first, pictures of them afterwards."""
