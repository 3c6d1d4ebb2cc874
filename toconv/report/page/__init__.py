"""report.html: one self-contained page that opens without a network and reads without a script."""
