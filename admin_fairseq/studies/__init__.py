"""One way to measure: a study has options, measures, and its result is shown in several forms.

``analysis`` and ``benchmarks`` are two tables of studies.
"""
