"""Size explorer: compress a causal language model live, and measure what that really costs."""
