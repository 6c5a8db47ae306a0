"""`kinpay doctor`: is everything here that this program needs, and what is to be done where it is not."""
