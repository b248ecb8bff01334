"""One self-contained HTML page from the measured facts of a run."""

from lenssteer.report.page import write_report

__all__ = ["write_report"]
