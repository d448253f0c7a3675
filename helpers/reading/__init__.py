"""Reading: a trained model and pictures in, texts with confidence out; the same for torch, ONNX and a service."""
