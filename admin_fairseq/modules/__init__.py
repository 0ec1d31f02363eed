"""The layers that all schemes share."""
