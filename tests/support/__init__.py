"""What tests share: stores that change or lie, servers, readers of exports."""
