"""Read manifests, split them, cut crops from them, make trials, and prepare data sets."""
