"""The registry server: the one writer, its database and its gRPC face."""
