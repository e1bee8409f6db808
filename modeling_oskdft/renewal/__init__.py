"""Renew a verifier on recordings of now: calibrate it, adapt its weights, and judge both on old and new trials."""
