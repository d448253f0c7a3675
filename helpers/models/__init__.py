"""Networks: images (B, C, H, W) in, logits (B, T, K) out; codecs, which know what logits mean; the designs; weights on disk."""
