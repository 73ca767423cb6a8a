"""Where extraction runs: Ray, its actors and machines, and the schedule of the work units."""
