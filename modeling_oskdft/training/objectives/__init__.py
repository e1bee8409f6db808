"""What is trained for."""
