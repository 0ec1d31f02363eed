"""Learning-rate schedules that the authors' recipes need and fairseq does not have."""
