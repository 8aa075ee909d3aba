"""ONNX files in 8-bit integers: ranges, weights, and which sections stay in floats."""
