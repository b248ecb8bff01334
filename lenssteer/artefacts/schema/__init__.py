"""One file an artefact: what its JSON may hold, as pydantic models; `published` gives them as JSON Schema."""
