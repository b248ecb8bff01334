"""Engines other than this process that answer under steerers."""
