"""The policy evaluator against tables, against a second reading of the API, against packets."""
