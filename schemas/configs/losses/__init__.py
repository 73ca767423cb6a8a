"""The parts of an objective: a list of weighted losses, each with the knobs its paper names. One module per loss."""
