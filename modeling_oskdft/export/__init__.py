"""Export a verifier to run without Python's training stack: one ONNX graph, in float32 or int8, and a program."""
