"""Keywords of the invoice robot. It writes where robots write: artifacts, working directory, HOME and temporary files."""

import json
import os
import sys
import tempfile
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table

VERSION = 1


def total_due(file):
    return sum(invoice["amount"] for invoice in _invoices(file) if not invoice["paid"])


def print_report(file, due):
    table = Table(title=f"Invoices, robot version {VERSION}")
    for column in ("number", "customer", "amount", "paid"):
        table.add_column(column)
    for invoice in _invoices(file):
        table.add_row(*(str(invoice[key]) for key in ("number", "customer", "amount", "paid")))
    # Robot Framework owns sys.stdout while it runs; what a person should see goes to the real one.
    console = Console(file=sys.__stdout__, width=72)
    console.print(table)
    console.print(f"due: {due} EUR, python {sys.version.split()[0]}, user {os.getuid()}")


def write_report(file, due):
    text = json.dumps({"version": VERSION, "due": due})
    Path(file).write_text(text, encoding="utf-8")
    with tempfile.NamedTemporaryFile("w") as scratch:
        scratch.write(text)
    for folder in (Path.cwd(), Path.home()):
        try:
            (folder / ".last-run").write_text(text, encoding="utf-8")
        except OSError as error:
            # A read-only root without a volume here: the report above is what counts.
            print(f"not kept in {folder}: {error.strerror}", file=sys.__stdout__)


def _invoices(file):
    return yaml.safe_load(Path(file).read_text(encoding="utf-8"))["invoices"]
