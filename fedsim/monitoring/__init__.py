"""What a run has told so far, as metrics of Prometheus: while it goes on, and from outside of it."""
