"""Size explorer: compress a causal language model live, and measure what that really costs."""

import os

# Before torch: memory in pages of 2 MB. Small ones are handed out so slowly that a first pruning takes thrice as long.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
