"""Telling people what happened: a cause leaves a message in the outbox, which becomes a notice to each person concerned."""
