"""Label Studio: its HTTP API and its task, annotation and prediction payloads."""
