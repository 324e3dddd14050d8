"""A fleet in virtual time: devices, the cells that they share, a tail server, federated rounds."""
