"""Mathematics that several losses share: cosines, geometry, spans from tokens."""
