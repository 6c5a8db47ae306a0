"""Telling a merchant's machines what became of charges: signed messages to their own endpoints (Standard Webhooks)."""
