"""What happens at a phase transition: one interface, and three ways."""
