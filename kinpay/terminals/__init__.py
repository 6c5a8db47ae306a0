"""Devices at merchants: their keys, their signed requests, the codes they show, what they are told to do."""
