"""Passes over logits in bounded memory, a chunk of rows at a time, with gradients of their own."""
