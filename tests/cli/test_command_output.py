"""Output formats: tables that fit, valid JSON, TSV with a fixed number of columns."""

from __future__ import annotations

import datetime
import json
import re
import unicodedata

import pytest
from fastseq_cli import output
from fastseq_cli.output import write_json, write_table, write_tsv
from hypothesis import given
from hypothesis import strategies as st

from fastseq.search.display import GAP, NARROWEST, cut, fitted, one_line, width_of


@given(st.text(), st.integers(1, 30))
def test_cut_text_fits(text: str, width: int) -> None:
    shown = cut(text, width)
    assert width_of(shown) <= width
    if shown != text:
        assert shown.endswith("…")
        assert text.startswith(shown[:-1])
    else:
        assert width_of(text) <= width


@given(st.text())
def test_cell_is_one_line_without_control_characters(text: str) -> None:
    shown = one_line(text)
    assert len(shown.splitlines()) <= 1
    assert not any(unicodedata.category(c) in ("Cc", "Cs") for c in shown)


def test_escape_codes_of_the_data_are_removed() -> None:
    assert "\x1b" not in one_line("\x1b[2Jgone\x07")
    assert one_line("a\x9b2J\u202eb\u2066c\x00") == "a\ufffd2J\ufffdb\ufffdc\ufffd"


PERSIAN, FAMILY, FLAGS = "می\u200cخواهم", "👩\u200d👩\u200d👧", "🇫🇷🇩🇪"
CONJUNCT, THAI, BURMESE, JAMO = "क्\u200dष", "ที่นี่", "မြို့", "\u1112\u1161\u11ab"


@pytest.mark.parametrize(
    "text",
    [PERSIAN, FAMILY, FLAGS, CONJUNCT, THAI, BURMESE, JAMO, "co\u00adop", "❤\ufe0f", "\u200fא1"],
)
def test_characters_that_join_others_stay(text: str) -> None:
    assert one_line(text) == text


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("e\u0301", 1), (PERSIAN, 7), (THAI, 2), ("हिन्दी", 5), (BURMESE, 2), (JAMO, 2), ("猫Ａ", 4),
        ("co\u00adop", 4), ("❤\ufe0f", 1), ("a\u20dd", 1), ("\u200b\u2060", 0),
    ],
)  # fmt: skip
def test_marks_and_format_characters_have_no_width(text: str, width: int) -> None:
    assert width_of(text) == width


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("ae\u0301\u0323iou", 3, "ae\u0301\u0323…"),
        ("हिन्दी है", 3, "हि…"),
        ("हिन्दी है", 2, "…"),
        (f"{FAMILY} x", 6, "…"),
        (f"{FAMILY} x", 7, f"{FAMILY}…"),
        ("👍🏽👍🏽", 4, "…"),
        (FLAGS, 3, "🇫🇷…"),
        (JAMO * 3, 4, f"{JAMO}…"),
    ],
)
def test_cut_keeps_characters_of_several_code_points_whole(
    text: str, width: int, shown: str
) -> None:
    assert cut(text, width) == shown


def test_plain_tables_align_wide_characters(capsys: pytest.CaptureFixture) -> None:
    write_table(["rank", "id", "text"], [(1, "a", "猫喜欢"), (10, "bb", "cat"), (2, "猫", None)])
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["rank  id  text", "   1  a   猫喜欢", "  10  bb  cat", "   2  猫"]


def test_table_without_rows_has_its_header(capsys: pytest.CaptureFixture) -> None:
    write_table(["rank", "id"], [])
    assert capsys.readouterr().out == "rank  id\n"


@pytest.mark.parametrize("width", [1, 9, 20, 40, 80, 300])
def test_table_fits_the_terminal(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setattr(output.sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", str(width))
    names = ["rank", "id", "[b]title[/b]", "text", "more"]
    write_table(names, [(1, "a", "[red]x[/red] :cat:", "long text " * 10**5, "猫" * 100)])
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert all(width_of(line.rstrip()) <= width for line in lines)
    if width == 40:
        assert lines[0].split() == ["rank", "id", "[b]title[/b]", "text"]
        assert lines[1].split()[:3] == ["1", "a", "[red]x[/red]"]
        assert " ".join(lines[2:]).startswith("Too narrow for: more")
    if width == 300:
        assert ":cat:" in lines[1]
        assert len(lines) == 2


@given(st.lists(st.integers(0, 200), min_size=1, max_size=8), st.integers(1, 120))
def test_columns_share_the_width(widest: list[int], width: int) -> None:
    widths = fitted(widest, width)
    assert 1 <= len(widths) <= len(widest)
    assert all(min(NARROWEST, w) <= got <= w for got, w in zip(widths, widest, strict=False))
    used = sum(widths) + GAP * (len(widths) - 1)
    if len(widths) > 1:
        assert used <= width
    if used < width and len(widths) == len(widest):
        assert width - used < len(widths) or widths == widest


def test_json_of_parquet_values(capsys: pytest.CaptureFixture) -> None:
    write_json(
        {
            "nan": float("nan"),
            "day": datetime.date(2026, 2, 3),
            "bytes": b"\xff",
            "list": [1, "猫", None, {"a": True}],
        }
    )
    said = capsys.readouterr().out
    assert "猫" in said
    assert json.loads(said) == {
        "nan": None,
        "day": "2026-02-03",
        "bytes": "\\xff",
        "list": [1, "猫", None, {"a": True}],
    }


@given(st.lists(st.tuples(st.text(), st.text()), max_size=5))
def test_tsv_has_a_fixed_number_of_columns(rows: list[tuple[str, str]]) -> None:
    import contextlib
    import io

    with contextlib.redirect_stdout(io.StringIO()) as out:
        write_tsv(["a", "b"], rows)
    lines = out.getvalue().split("\n")
    assert len(lines) == len(rows) + 2
    assert all(line.count("\t") == 1 for line in lines[:-1])
