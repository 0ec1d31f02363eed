"""Provide the framework for measurements, which are called studies.

A study has options, a measurement, and views of its result: a table, pictures and text. The
commands ``analyze`` and ``benchmark`` are two tables of studies, which the packages ``analysis``
and ``benchmarks`` define.
"""
