"""Learning-rate schedules that the releases' recipes need and fairseq lacks."""
