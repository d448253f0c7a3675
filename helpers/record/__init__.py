"""The record: what a training did in, an MLflow run out, on disk or on a server."""
