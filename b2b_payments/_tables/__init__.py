"""Payments as tables: the columns, the rows, and conversion to Arrow."""
