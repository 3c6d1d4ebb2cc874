"""A running sweep as people see it in the terminal."""
