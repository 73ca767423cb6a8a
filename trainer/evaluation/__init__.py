"""How good a model is on texts and sentence pairs that it has not learnt from."""
