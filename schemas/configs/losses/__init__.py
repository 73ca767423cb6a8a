"""What an objective is made of: a list of weighted losses, each with the knobs its paper names. One module per loss."""
