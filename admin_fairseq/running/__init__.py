"""Running fairseq's commands with published settings: training, evaluation, tables."""
