"""The shop's front door: month 1's gateway with the shop's routes."""
