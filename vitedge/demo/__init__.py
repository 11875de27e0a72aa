"""``vitedge demo``: the whole way on scanned digits."""
