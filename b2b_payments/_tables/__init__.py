"""Payments as tables: their columns, their rows, and Arrow."""
