"""Files in: tables of every kind, and what commands make of them."""
