"""One thread per test process: small tensors gain nothing from two, and busy cores make them slow."""

import torch

torch.set_num_threads(1)
