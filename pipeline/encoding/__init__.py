"""Making hidden states small: what is learnt once of a layer's states, and how rows become bytes by it."""
