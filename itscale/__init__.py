"""Inference-time scaling and guided sampling for pretrained diffusion and flow models."""
