"""What consumes tokens: LLaVA."""
