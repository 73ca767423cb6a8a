"""Texts that a student writes."""
