"""What a month came to, for a circle."""
