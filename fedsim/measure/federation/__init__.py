"""What a federated run says: accuracy by what it is about, bytes at four levels up and down."""
