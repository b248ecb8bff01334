"""Files that anybody may have written: read with care, written at once, and described by a schema each."""
