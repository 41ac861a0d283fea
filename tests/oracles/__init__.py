"""Independent float64 NumPy oracles that the library is tested against."""
