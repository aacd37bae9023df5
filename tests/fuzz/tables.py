"""Price files with random faults: cells, rows, columns, headers, separators, encodings, types."""

from __future__ import annotations

import io
import random
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from tests.fuzz.judged import Outcome, judged, shortened
from tests.markets import market

CELLS = [
    *("", " ", "x", "n/a", "-", "nan", "inf", "-inf", "1e308", "-1", "0", "1,234.5", "1.234,5", "$5", "5%", "1.2M"),
    *("2020-13-45", "1577836800000", "99999999999999999999", "0001-01-01", "9999-12-31", "20200102", "é", "x" * 300),
    *("True", "None", '"', "'", "=1+1", "2020-01-02T00:00:00+01:00", "01/02/2020", "12:30"),
]
NAMES = ["", "Close", "close", "Date", "timestamp", "symbol", "Unnamed: 0", "x" * 300, "Adj Close", "OPEN", "1", "é"]
SEPARATORS = [";", "\t", "|", " "]
ENCODINGS = ["utf-16", "latin-1", "utf-8-sig", "utf-32", "cp1252"]
COMMON = ["--data.window", "5", "--data.features", "[log_return_1,close_location]"]


def case(number: int, seed: int, folder: Path) -> tuple[Outcome, str]:
    """Reads the file of a number.

    Args:
        number: Its number.
        seed: Seed of all.
        folder: A folder for its file, which is removed.
    """
    chance = random.Random(f"{seed} table {number}")
    place = folder / f"table{number}"
    place.mkdir(parents=True)
    table = market(chance.choice((12, 60, 150)), symbols=("AAA", "BBB"), gaps=False)
    table["timestamp"] = table["timestamp"].dt.strftime(chance.choice(("%Y-%m-%d", "%d.%m.%Y", "%Y-%m-%d %H:%M")))
    write = chance.choice((_csv, _csv, _csv, _parquet, _bytes))
    try:
        file, notes = write(table, place, chance)
        source = ["--data.source", "cnn_lstm.data.sources.PriceFiles", "--data.source.init_args.paths", file]
        verb = chance.choice(("check", "check", "describe"))
        return judged("data", verb, *source, *COMMON), f"{file.name}: {notes}"
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _csv(table: pd.DataFrame, place: Path, chance: random.Random) -> tuple[Path, str]:
    notes = []
    lines = [line.split(",") for line in table.to_csv(index=False).splitlines()]
    for _ in range(chance.choice((1, 1, 2, 3))):
        notes.append(_changed(lines, chance))
    text, encoding = "\n".join(",".join(cells) for cells in lines), "utf-8"
    if chance.random() < 0.2:
        separator = chance.choice(SEPARATORS)
        text = text.replace(",", separator)
        notes.append(f"separated by {separator!r}")
    if chance.random() < 0.15:
        encoding = chance.choice(ENCODINGS)
        notes.append(encoding)
    file = place / chance.choice(("prices.csv", "prices.txt", "AAA.csv", "prices.csv.gz", "prices"))
    file.write_bytes(text.encode(encoding, errors="replace"))
    return file, "; ".join(notes)


def _changed(lines: list[list[str]], chance: random.Random) -> str:
    if len(lines) == 1:
        return "no row is left to change"
    row, kind = chance.randrange(1, len(lines)), chance.randrange(9)
    column = chance.randrange(len(lines[0]))
    if kind <= 2:
        value = chance.choice(CELLS)
        lines[row][min(column, len(lines[row]) - 1)] = value
        return f"cell ({row}, {column}) = {shortened(value)}"
    if kind == 3:
        value = chance.choice(CELLS)
        for cells in lines[1:]:
            cells[min(column, len(cells) - 1)] = value
        return f"column {column} = {shortened(value)}"
    if kind == 4:
        lines[0][column] = chance.choice(NAMES)
        return f"column {column} is called {shortened(lines[0][column])}"
    if kind == 5:
        lines.insert(chance.choice((0, 1, row)), [chance.choice(CELLS)] * chance.choice((1, 3, 7, 9)))
        return "a row of rubbish"
    if kind == 6:
        for cells in lines:
            del cells[min(column, len(cells) - 1)]
        return f"without column {column}"
    if kind == 7:
        del lines[row:]
        return f"cut at row {row}"
    lines[row:] = lines[row:][::-1] + lines[row : row + 1]
    return f"turned around from row {row}"


def _parquet(table: pd.DataFrame, place: Path, chance: random.Random) -> tuple[Path, str]:
    name = chance.choice(list(table.columns))
    values: dict[str, Any] = {
        "text": table[name].astype(str),
        "bool": [True] * len(table),
        "null": [None] * len(table),
        "list": [[1, 2]] * len(table),
        "bytes": [b"x"] * len(table),
        "duration": pd.to_timedelta(range(len(table)), unit="D"),
        "category": pd.Categorical(table[name]),
        "huge": [2**62] * len(table),
        "moments": pd.date_range("2020", periods=len(table), tz=chance.choice((None, "UTC", "Asia/Tokyo"))),
        "decimal": pd.array(range(len(table)), dtype="Int64"),
    }
    kind = chance.choice(list(values))
    changed = table.assign(**{name: values[kind]})
    if chance.random() < 0.3:
        changed = changed.set_index(chance.choice(list(table.columns)))
    stream = io.BytesIO()
    changed.to_parquet(stream)
    content = stream.getvalue()
    cut = chance.random() < 0.2
    file = place / chance.choice(("prices.parquet", "prices.pq", "prices.feather", "prices.csv"))
    file.write_bytes(content[: len(content) // 2] if cut else content)
    return file, f"{name} as {kind}{', cut' if cut else ''}"


def _bytes(table: pd.DataFrame, place: Path, chance: random.Random) -> tuple[Path, str]:
    names = ("prices.csv", "prices.parquet", "prices.zip", "prices.feather", "prices.xlsx", "prices.json", "a b.csv")
    file = place / chance.choice(names)
    size = chance.choice((0, 1, 7, 5000))
    file.write_bytes(chance.randbytes(size))
    return file, f"{size} random bytes"
