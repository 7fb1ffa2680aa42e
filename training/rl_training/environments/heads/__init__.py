"""The cheap environment ``heads``: eight heads, random masks, returns that are known exactly."""
