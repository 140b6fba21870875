"""Faults tried for real on a survey of two waves: what is done to a refresh, and what must hold afterwards."""
