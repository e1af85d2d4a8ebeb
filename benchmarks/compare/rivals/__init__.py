"""The contenders, one file each: how a good engineer would read every payment with that library."""
