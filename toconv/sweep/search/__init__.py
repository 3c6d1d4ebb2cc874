"""What Optuna proposes and keeps: the only folder that knows it."""
