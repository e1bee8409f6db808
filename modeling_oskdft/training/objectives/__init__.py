"""The losses of the one step: distillation on the kd path, speaker classification on the ft path.

Class vectors, prediction heads and projections exist for a loss alone; the published model has none of them.
"""
