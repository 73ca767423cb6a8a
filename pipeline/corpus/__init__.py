"""From records to samples, and from samples to work units."""
