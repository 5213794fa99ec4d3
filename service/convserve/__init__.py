"""convserve: serves convolutional networks. No torch here, by contract."""
