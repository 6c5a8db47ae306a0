"""Operators: their merchants and sites, the staff who see to them, back offices' API keys, and what takes two people."""
