"""Many trainings: the file, proposals and the ledger, the driver, Ray."""
