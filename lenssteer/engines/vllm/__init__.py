"""vLLM: edits as an op of its compiled graph, one steerer a request."""
