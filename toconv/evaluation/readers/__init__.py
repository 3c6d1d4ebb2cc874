"""Read-outs of compressed tokens: closed forms fitted on training pictures, and heads fitted on original tokens."""
