"""The archiver: from JetStream to JSONL.gz segments and manifests, exactly once."""
