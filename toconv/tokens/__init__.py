"""Pictures → tokens of the frozen encoder, computed once and shared."""
