"""The annealing engine: the problem contract, schedules, the detector and `anneal`."""
