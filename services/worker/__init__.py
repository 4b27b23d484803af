"""The worker: has workflows decide and activities do, as Temporal hands them out, or one job right here."""
