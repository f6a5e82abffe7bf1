"""How ``so8t audit`` shows reports and entries to people and to scripts."""

from typing import Any, Final

import orjson
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from audit.note import encode_base64
from audit.vault import Opened
from audit.verify import Report

Record = dict[str, Any]
"""``index``, ``entry`` (its fields) and, where the vault was opened, ``payloads``."""

WIDE: Final = 240
_SHOWN_ELSEWHERE = ("v", "id", "t", "ev", "org", "payloads")


def report_json(report: Report) -> Record:
    """Return a report for a script."""
    return {
        "organization": report.organization,
        "holds": report.holds,
        "size": report.size,
        "root": encode_base64(report.root),
        "database_entries": report.entries,
        "first_index": report.first_index,
        "findings": [{"index": each.index, "what": each.what} for each in report.findings],
    }


def payload_json(opened: Opened) -> dict[str, str]:
    """Return a payload, as text where it is UTF-8, and its salt: together they give the commitment in the entry."""
    try:
        content = {"text": opened.payload.decode()}
    except UnicodeDecodeError:
        content = {"base64": encode_base64(opened.payload)}
    return {**content, "salt": encode_base64(opened.salt)}


def print_reports(reports: list[Report]) -> None:
    """Print a line for each log, then whatever does not hold."""
    console = Console(highlight=False, soft_wrap=True)
    if not reports:
        console.print("nothing is logged yet")
        return
    table = Table("organisation", "published", "database", "root", "", box=None, header_style="dim")
    for report in reports:
        result = Text("holds", "green") if report.holds else Text("DOES NOT HOLD", "bold red")
        entries = "" if report.entries is None else str(report.entries)
        root = encode_base64(report.root)
        table.add_row(Text(report.organization), str(report.size), entries, root, result)
    console.print(table)
    for report in reports:
        for finding in report.findings:
            where = "" if finding.index is None else f" entry {finding.index}:"
            console.print(Text(f"{report.organization}:{where} {finding.what}", "red"))


def print_wide(shown: RenderableType) -> None:
    """Print a table as wide as it is: an id that is cut cannot be copied."""
    Console(highlight=False, width=WIDE).print(shown, soft_wrap=True)


def print_table(records: list[Record]) -> None:
    """Print a line for each entry."""
    table = Table("index", "time", "organisation", "event", "what", "id", box=None, header_style="dim")
    for record in records:
        entry = record["entry"]
        table.add_row(str(record["index"]), entry["t"], entry["org"], entry["ev"], _summary(entry), entry["id"])
    print_wide(table)


def print_record(record: Record) -> None:
    """Print one entry whole, with its payloads where they were opened."""
    entry = record["entry"]
    console = Console(highlight=False, soft_wrap=True)
    console.print(Text(f"{entry['org']} #{record['index']}  {entry['t']}  {entry['ev']}", "bold"))
    grid = Table.grid(padding=(0, 2))
    for name in ("id", *(each for each in entry if each not in _SHOWN_ELSEWHERE)):
        value = entry[name]
        grid.add_row(Text(name, "dim"), Text(value if isinstance(value, str) else orjson.dumps(value).decode()))
    for name, commitment in entry.get("payloads", {}).items():
        grid.add_row(Text(f"payload {name}", "dim"), Text(commitment))
    console.print(grid)
    if "payloads" not in record:
        return
    for name in entry.get("payloads", {}):
        opened = record["payloads"].get(name)
        console.print(Text(f"{name}:" if opened else f"{name}: erased", "dim"))
        if opened:
            console.print(Text(_printable(opened.payload)))


def _summary(entry: Record) -> str:
    match entry["ev"]:
        case "decision":
            reasons = " ".join(entry["reasons"])
            return f"{entry['stage']} {entry['effect'] or 'no verdict'} {entry.get('domain') or ''} {reasons}".strip()
        case "enforcement":
            status = entry.get("upstream_status")
            return f"{entry['outcome']} ({status})" if status else str(entry["outcome"])
        case "erasure":
            return f"{len(entry['entries'])} entries, {entry['ground']}"
        case "case":
            return f"{entry['before']} → {entry['status']} {entry.get('reason') or ''}".strip()
        case "case_opened":
            return f"{entry['stage']} {entry.get('domain') or ''} {entry.get('route_to') or ''}".strip()
        case "case_ruled" | "ruling_refused":
            told = entry.get("ground") or entry.get("lesson") or ""
            return f"{entry['kind']} ({entry['auth']}) {told}".strip()
        case "delivered" | "delivery_dead":
            return f"{entry['channel']} {entry['kind']} {entry.get('error') or ''}".strip()
        case "sign_in_failed":
            return str(entry["ground"])
        case _:
            return str(entry.get("key") or entry.get("policy") or entry.get("version") or "")


def _printable(payload: bytes) -> str:
    """Return text without what a terminal would obey."""
    text = payload.decode(errors="replace")
    return "".join(each if each.isprintable() or each in "\n\t" else f"\\x{ord(each):02x}" for each in text)
