"""The training side of convserve: the only place where torch lives."""
