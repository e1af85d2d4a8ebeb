"""What is in an export or a copy: money and counts, by what people ask for."""
