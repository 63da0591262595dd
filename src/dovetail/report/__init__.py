"""A report in the terminal, as one HTML file, as JSON and as Parquet; formats in docs/report.md."""

from dovetail.report.files import FORMAT, load, save
from dovetail.report.html import html
from dovetail.report.notes import headline, notes
from dovetail.report.terminal import terminal

__all__ = ["FORMAT", "headline", "html", "load", "notes", "save", "terminal"]
