"""Made by `python -m month3_messaging.rpc.generate` from the two contracts beside it."""
