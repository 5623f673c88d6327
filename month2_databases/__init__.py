"""Month 2: replicas, shards and what consistency costs."""
