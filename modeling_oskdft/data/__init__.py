"""Data: manifests, crops, augmentation and synthetic voices."""
