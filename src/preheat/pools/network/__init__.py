"""The way to one server: names, addresses and sockets, TLS, and the log-in that is bound to it. Knows no driver."""
