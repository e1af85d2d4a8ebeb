"""The contenders, a file each: how a good engineer reads every payment with that library."""
