"""The release in the tools of its readers: what `make test-bi` runs, and the document that is held to its word."""
