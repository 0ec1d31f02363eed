"""Running fairseq's commands as published: training, evaluation, tables of both."""
