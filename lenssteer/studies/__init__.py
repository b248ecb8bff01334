"""Whole studies: choose on one split, report on another."""
