"""Reports on an export or a copy: money and counts, by month, status, channel, module and customer."""
