"""Problems: each a free energy on the one engine."""
