"""Read-outs of compressed tokens: closed forms fitted on training pictures, and heads fitted on original tokens."""

from toconv.code_version import within

READ_BY = within(  # below the package
    "evaluation/readers", "clusters", "local_ridge", "panel", "reading", "references", "restored", "ridge"
)
