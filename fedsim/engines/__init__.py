"""Engines: a run plan in, the ledger's events out. One small adapter each."""
