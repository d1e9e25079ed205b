"""Runs contestants, each job in a fresh process."""
