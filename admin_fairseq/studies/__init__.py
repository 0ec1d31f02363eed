"""The framework for measurements: a study has options, a measurement, and views of its result.

``analysis`` and ``benchmarks`` are two tables of studies.
"""
