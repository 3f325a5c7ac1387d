"""A model in, a smaller model out: data, fine-tuning, distillation, pruning, quantizers."""
