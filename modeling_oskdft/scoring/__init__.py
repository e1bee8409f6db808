"""Score pairs of recordings, and measure error rates and thresholds from the scores."""
