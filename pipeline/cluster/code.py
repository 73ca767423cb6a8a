"""Where stillroom's own code lies, and what of it other machines are sent."""

from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
FLOORS = ("jobs", "pipeline", "schemas", "trainer")
