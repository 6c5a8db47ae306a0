"""What the biometrics of this house are worth, measured on pictures that somebody has: `python -m bench.biometrics`."""
