"""Cells of text -> numbers: signs of currencies, separators of thousands, decimal commas, `1.2M`.

What could be two numbers is refused, unless other cells of the file prove how it is meant.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Literal, get_args

import pandas as pd

from cnn_lstm.data.sources.text_table import MISSING
from cnn_lstm.errors import DataError, Defect, DefectsError
from cnn_lstm.hints import counted

log = logging.getLogger(__name__)
Decimal = Literal[".", ","]
DECIMALS = get_args(Decimal)
# (group, decimal point): thousands in groups of three; India's smaller groups have two digits
STYLES = {
    ".": r"[+-]?(?:\d+|\d{1,3}(?:,\d{2,3})*,\d{3})?(?:\.\d*)?(?:[eE][+-]?\d+)?",
    ",": r"[+-]?(?:\d+|\d{1,3}(?:\.\d{3})+)?(?:,\d*)?(?:[eE][+-]?\d+)?",
}
CURRENCY = r"^([+-]?)\s*[$€£¥₹]\s*(?=\S)|(?<=\d)\s*[$€£¥₹]$"
BLANKS = r"(?<=\d)[ \u00a0\u202f'\u2019](?=\d{3}(?!\d))"
SUFFIX = r"^(?P<number>.*\d)\s*(?P<suffix>[KkMmBbTt])$"
FIX = "correct the cells, or name what counts as missing in data.source.missing"
FACTORS = {"k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}


def number_columns(
    columns: Mapping[str, pd.Series],
    wanted: Collection[str],
    where: str,
    decimal: Decimal | None = None,
    missing: Collection[str] = (),
) -> dict[str, pd.Series[float]]:
    """Float columns; a column with no number at all is left out with a warning, unless it is `wanted`.

    Args:
        columns: Cells by the name of the column; the index is the number of the row in the file.
        wanted: Columns that must be numbers.
        where: The file, for messages.
        decimal: Sign before the decimals; None takes a point, or what `decimal_of` proves.
        missing: Words that count as missing next to those of `MISSING`.

    Raises:
        DefectsError: E304, cells that are not numbers.
        DataError: E345, cells that could be two numbers.

    Example:
        >>> number_columns({"volume": pd.Series(["$1,234.50", "1.2M"])}, {"volume"}, "x.csv")["volume"].tolist()
        [1234.5, 1200000.0]
    """
    texts = {name: _bare(cells) for name, cells in columns.items() if not pd.api.types.is_numeric_dtype(cells)}
    texts = {name: text.mask(text.isin([*missing]), "") for name, text in texts.items()}
    decimal = decimal or decimal_of(texts, wanted, where)
    values: dict[str, pd.Series[float]] = {}
    defects: list[Defect] = []
    for name, cells in columns.items():
        if name not in texts:
            values[name] = cells.astype("float64")
            continue
        known = ~texts[name].isin(MISSING)
        number = _numbers(texts[name], decimal)
        bad = known & number.isna()
        if (
            name not in wanted
            and bad.any()
            and not pd.to_numeric(texts[name].where(known), errors="coerce").notna().any()
        ):
            log.warning("column %s holds text — %s — it is left out", name, where)
        elif bad.any():
            first = int(bad.to_numpy().argmax())
            place = f"{where}:{cells.index[first]}, column {name}, {counted(int(bad.sum()), 'cell')}"
            text = str(cells.iloc[first]).strip()
            defects.append(Defect(304, f"{text[:40]!r} is not a number", place, FIX))
        else:
            values[name] = number
    if defects:
        raise DefectsError(defects)
    return values


def has_commas(columns: Mapping[str, pd.Series], wanted: Collection[str]) -> bool:
    """Whether some cells of the columns with numbers have a comma, so that a point may stand between thousands."""
    texts = {name: _bare(cells) for name, cells in columns.items() if not pd.api.types.is_numeric_dtype(cells)}
    return any(text.str.contains(",", regex=False).any() for text in _like_numbers(texts, wanted))


def decimal_of(texts: Mapping[str, pd.Series], wanted: Collection[str], where: str) -> Decimal:
    """The sign before the decimals that the cells of a file prove; a point where none of them has a comma.

    Args:
        texts: Bare cells by column.
        wanted: Columns that must be numbers.
        where: The file, for messages.

    Raises:
        DataError: E345, all cells could be read in both ways, or some prove one way and some the other.
    """
    cells = [text for text in _like_numbers(texts, wanted) if len(text)]
    every = pd.concat(cells) if cells else pd.Series([], dtype="str")
    if not every.str.contains(",", regex=False).any():
        return "."
    fits = {sign: every.str.fullmatch(style) for sign, style in STYLES.items()}
    proofs: dict[Decimal, pd.Series] = {".": every[fits["."] & ~fits[","]], ",": every[fits[","] & ~fits["."]]}
    proven: list[Decimal] = [sign for sign, cells in proofs.items() if len(cells)]
    fix = "set data.source.decimal to '.' or ','"
    if len(proven) == 2:
        one, two = (f"{cells.iloc[0]!r} in line {cells.index[0]}" for cells in proofs.values())
        what = f"decimal points and decimal commas: {one}, {two}"
        raise DataError(what, where, f"write all numbers alike, or {fix}", code=345)
    unclear = every[fits["."] & fits[","] & every.str.contains(",", regex=False)]
    if not proven and len(unclear):
        what = f"{unclear.iloc[0]!r} could have thousands or decimals behind the comma"
        raise DataError(what, f"{where}:{unclear.index[0]}, {counted(len(unclear), 'cell')}", fix, code=345)
    return proven[0] if proven else "."


def _bare(cells: pd.Series) -> pd.Series:
    """Texts without the sign of a currency and blanks or apostrophes between thousands."""
    text = cells.astype("str").fillna("").str.strip()
    odd = text.str.contains("[$€£¥₹ \u00a0\u202f'\u2019]")  # not a raw string: RE2 does not know this escape
    if odd.any():
        plain = text[odd].str.replace(CURRENCY, r"\1", regex=True).str.replace(BLANKS, "", regex=True)
        text = text.where(~odd, plain.reindex(text.index))
    return text


def _like_numbers(texts: Mapping[str, pd.Series], wanted: Collection[str]) -> list[pd.Series]:
    """The cells, of columns of numbers, that are made of digits and separators."""
    kept = []
    for name, text in texts.items():
        text = text[~text.isin(MISSING)].str.replace(SUFFIX, r"\g<number>", regex=True)
        like = text.str.fullmatch(r"[+-]?[\d.,]*\d[\d.,]*(?:[eE][+-]?\d+)?")
        if name in wanted or like.all():
            kept.append(text[like])
    return kept


def _numbers(text: pd.Series, decimal: Decimal) -> pd.Series[float]:
    """Numbers of bare texts; NaN where a text is none."""
    direct = pd.to_numeric(text.where(~text.isin(MISSING)), errors="coerce").astype("float64")
    rest = text[direct.isna()] if decimal == "." else text
    if rest.empty:
        return direct
    parts = rest.str.extract(SUFFIX)
    core = parts["number"].fillna(rest)
    core = core.where(core.str.fullmatch(STYLES[decimal]))
    thousands = "," if decimal == "." else "."
    core = core.str.replace(thousands, "", regex=False).str.replace(decimal, ".", regex=False)
    number = pd.to_numeric(core, errors="coerce").astype("float64")
    number *= parts["suffix"].str.lower().map(FACTORS).astype("float64").fillna(1.0)
    return direct.fillna(number) if decimal == "." else number.reindex(text.index)
