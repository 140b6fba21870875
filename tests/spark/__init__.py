"""The models on Spark, run by `make test-spark`."""
