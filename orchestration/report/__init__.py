"""The indicator page of a release: what a reader opens first, made from the release's own marts."""
