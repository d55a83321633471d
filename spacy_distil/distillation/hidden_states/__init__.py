"""What passes from encoder to encoder: hidden states that are compared in training, and weights to start from."""
