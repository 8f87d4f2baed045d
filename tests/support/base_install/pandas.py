"""In the place of pandas, for processes that a test starts."""

raise ImportError("pandas is not in the base install")
