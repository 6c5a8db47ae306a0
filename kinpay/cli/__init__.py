"""Typing at it: the `kinpay` command."""
