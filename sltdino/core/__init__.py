"""What every other module may use: settings, files of a run, randomness."""
