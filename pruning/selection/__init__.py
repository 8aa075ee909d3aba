"""Which channels go: families, importances, schedules, and how far a schedule is followed."""
