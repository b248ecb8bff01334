"""Steerers in the formats of other tools, and vectors and planes from theirs."""
