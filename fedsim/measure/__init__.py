"""What a run cost: the ledger of events, and the summary, tables and plots that derive from it alone."""
