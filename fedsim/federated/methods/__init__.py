"""The federated methods that come with fedsim, a file each."""
