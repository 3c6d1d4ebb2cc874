"""Records in MLflow and W&B."""
