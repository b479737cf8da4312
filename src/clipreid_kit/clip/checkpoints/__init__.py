"""Save, load, resume, interpolate and export trained towers."""
