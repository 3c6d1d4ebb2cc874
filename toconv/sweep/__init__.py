"""Many trainings: what a sweep file says, proposals and the ledger, Ray, tracking, the report."""
