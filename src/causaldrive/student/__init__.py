"""Step 2: the student. A Qwen3-VL backbone that writes the reason, and a trajectory decoder that reads its cache.

Reads and writes checkpoints (Hugging Face directories). Knows tensors, tokens and samples; nothing of
worlds or labels.
"""
