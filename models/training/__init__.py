"""The recipe that made the embedded models. `python -m models.training --help`."""
