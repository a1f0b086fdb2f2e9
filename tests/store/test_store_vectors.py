"""Reading of word vectors: every form of other programs, and errors."""

from __future__ import annotations

import gzip
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastseq.errors import DataError, FastseqWarning, FormatError, SettingsError
from fastseq.store import vector_files as module
from fastseq.vectors.formats import read_word_vectors

WORDS = ["the", "猫", "naïve", ",", "7", "a\u00a0b", "Zürich", "\u2028"]
VECTORS = np.random.default_rng(0).normal(size=(len(WORDS), 5)).astype(np.float32)


def text(header: bool = False, end: str = "\n", words: list[str] = WORDS) -> bytes:
    rows = [
        " ".join([word, *(repr(float(x)) for x in row)])
        for word, row in zip(words, VECTORS, strict=False)
    ]
    first = [f"{len(words)} {VECTORS.shape[1]}"] if header else []
    return "".join(row + end for row in [*first, *rows]).encode()


def binary(end: bytes = b"\n") -> bytes:
    rows = [
        word.encode() + b" " + row.astype("<f4").tobytes() + end
        for word, row in zip(WORDS, VECTORS, strict=True)
    ]
    return f"{len(WORDS)} {VECTORS.shape[1]}\n".encode() + b"".join(rows)


def parquet(path: Path, kind: pa.DataType, words: pa.Array | None = None, **options: int) -> Path:
    column = pa.array([row.tolist() for row in VECTORS], kind)
    names = pa.array(WORDS) if words is None else words
    pq.write_table(
        pa.table({"n": list(range(8)), "vector": column, "word": names}), path, **options
    )
    return path


def put(tmp_path: Path, content: bytes, name: str = "v.txt") -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


FORMS = {
    "glove.txt": text(),
    "word2vec.txt": text(header=True),
    "fasttext.vec": text(header=True, end=" \n"),
    "windows.txt": text(header=True, end="\r\n"),
    "tabs.txt": text().replace(b" ", b"\t"),
    "bom.txt": b"\xef\xbb\xbf" + text(),
    "bom_header.txt": b"\xef\xbb\xbf" + text(header=True),
    "blank.txt": text().replace(b"\n", b"\n\n"),
    "no_end.txt": text().rstrip(b"\n"),
    "spaces.txt": text().replace(b" ", b"  "),
    "glove_without_suffix": text(),
    "word2vec_without_suffix": text(header=True),
    "misnamed_text.bin": text(header=True),
    "word2vec.bin": binary(),
    "no_line_ends.bin": binary(b""),
    "binary_without_suffix": binary(),
    "glove.txt.gz": gzip.compress(text()),
    "word2vec.bin.gz": gzip.compress(binary()),
    "packed_without_suffix": gzip.compress(text(header=True)[:70])
    + gzip.compress(text(header=True)[70:]),
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("block", [1 << 22, 40])
def test_every_format_is_read(
    name: str, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in blocks that end in the middle of everything."""
    path = put(tmp_path, FORMS[name], name)
    if block == 40:
        monkeypatch.setattr(module, "_BLOCK", 100)  # no line is longer, as in life
    words, vectors = read_word_vectors(path)
    assert words == WORDS
    assert vectors.dtype == np.float32
    assert vectors.flags.c_contiguous
    assert vectors.flags.writeable
    assert vectors.tobytes() == VECTORS.tobytes()


@pytest.mark.parametrize("name", FORMS)
def test_only_wanted_words_are_read(name: str, tmp_path: Path) -> None:
    path = put(tmp_path, FORMS[name], name)
    words, vectors = read_word_vectors(path, ["naïve", "not there", "the", "\u2028"], threads=1)
    assert words == ["the", "naïve", "\u2028"]
    assert vectors.tobytes() == VECTORS[[0, 2, 7]].tobytes()
    words, vectors = read_word_vectors(path, {"not there"})
    assert words == []
    assert vectors.shape == (0, 5)
    assert vectors.dtype == np.float32


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float32()),
        pa.list_(pa.float64()),
        pa.large_list(pa.float32()),
        pa.list_(pa.float32(), 5),
    ],
)
@pytest.mark.parametrize(
    "names", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())]
)
def test_parquet(kind: pa.DataType, names: pa.DataType, tmp_path: Path) -> None:
    path = parquet(tmp_path / "v.parquet", kind, pa.array(WORDS).cast(names), row_group_size=3)
    words, vectors = read_word_vectors(path)
    assert words == WORDS
    assert vectors.tobytes() == VECTORS.tobytes()
    words, vectors = read_word_vectors(path, {"7", "猫"})
    assert words == ["猫", "7"]
    assert vectors.tobytes() == VECTORS[[1, 4]].tobytes()


def test_parquet_of_other_numbers(tmp_path: Path) -> None:
    column = pa.array(
        [np.array([1, 2], np.float16), np.array([3, 4], np.float16)], pa.list_(pa.float16())
    )
    pq.write_table(pa.table({"word": ["a", "b"], "vector": column}), tmp_path / "v")
    assert read_word_vectors(tmp_path / "v")[1].tolist() == [[1, 2], [3, 4]]
    pq.write_table(pa.table({"word": ["a"], "vector": [[1, 2]]}), tmp_path / "v")
    assert read_word_vectors(tmp_path / "v")[1].tolist() == [[1, 2]]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs", "Zs", "Cc"]), min_size=1, max_size=6),
        min_size=1,
        max_size=30,
        unique=True,
    ),
    st.integers(2, 9),
    st.booleans(),
    st.integers(0, 99),
)
def test_any_words(tmp_path: Path, words: list[str], d: int, header: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    numbers = (rng.normal(size=(len(words), d)) * 10.0 ** rng.integers(-30, 30)).astype(np.float32)
    rows = [" ".join([w, *map(str, row.tolist())]) for w, row in zip(words, numbers, strict=True)]
    first = [f"{len(words)} {d}"] if header else []
    path = put(tmp_path, "\n".join([*first, *rows, ""]).encode())
    found, vectors = read_word_vectors(path, threads=2)
    # a byte order mark at the start of a file is not part of its first word
    assert found == [words[0].removeprefix("\ufeff") if not header else words[0], *words[1:]]
    assert vectors.tobytes() == numbers.tobytes()


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from([n for n in FORMS if n != "packed_without_suffix"]), st.data())
def test_damage_raises_only_data_errors(tmp_path: Path, name: str, data: st.DataObject) -> None:
    content = bytearray(FORMS[name])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = put(tmp_path, bytes(content[: data.draw(st.integers(0, len(content)))]), name)
    try:
        words, vectors = read_word_vectors(path, threads=1)
    except DataError as error:
        message = str(error)
    else:
        message = str(path)
        assert vectors.shape[0] == len(words) == len(set(words))
        assert np.isfinite(vectors).all()
    assert str(path) in message
    assert "\n" not in message


def test_words_with_spaces_in_them(tmp_path: Path) -> None:
    path = put(tmp_path, b"a 1 2\n. . . 3 4\nat name@domain.com 5 6\nb 7 8\n")
    words, vectors = read_word_vectors(path)
    assert words == ["a", ". . .", "at name@domain.com", "b"]
    assert vectors.tolist() == [[1, 2], [3, 4], [5, 6], [7, 8]]


def test_first_of_duplicate_words_is_used(tmp_path: Path) -> None:
    words, vectors = read_word_vectors(put(tmp_path, b"4 2\na 1 2\nb 3 4\na 5 6\nb 7 8\n"))
    assert words == ["a", "b"]
    assert vectors.tolist() == [[1, 2], [3, 4]]


def test_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    words, vectors = read_word_vectors(put(tmp_path, b"\xe7\x8c 1 2\n\xff 3 4\nb 5 6\n"))
    assert words == ["\ufffd", "b"]  # the first two are the same now
    assert vectors.tolist() == [[1, 2], [5, 6]]


def test_one_dimensional_vectors(tmp_path: Path) -> None:
    assert read_word_vectors(put(tmp_path, b"a 1.5\nb 2\n"))[1].tolist() == [[1.5], [2]]
    assert read_word_vectors(put(tmp_path, b"2 1\na 1.5\nb 2\n"))[0] == ["a", "b"]


def test_every_number_notation(tmp_path: Path) -> None:
    path = put(tmp_path, b"a 1 -2.5 1e-3 1E5 .5 5. 0.1234567890123456789 -0 1e-50\n")
    expected = [1, -2.5, 1e-3, 1e5, 0.5, 5, 0.12345679, 0, 0]
    assert read_word_vectors(path)[1][0].tolist() == np.array(expected, np.float32).tolist()


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        (b"", "v.txt", "v.txt: empty"),
        (gzip.compress(b""), "v.txt.gz", "v.txt.gz: empty"),
        (b"\n\n", "v.txt", "no word vectors in it"),
        (b"0 5\n", "v.txt", "no word vectors in it"),
        (b"0 5\n", "v.bin", "no word vectors in it"),
        (b"a 1 2\nb 3\n", "v.txt", "v.txt: line 2 holds 1 numbers, expected 2"),
        (b"a 1 2\n\nb 3 4 5\n", "v.txt", "line 3 holds 3 numbers, expected 2"),
        (b"2 2\na 1 2\nb 3 4 5\n", "v.vec", "line 3 holds 3 numbers, expected 2"),
        (b"2 2\na 1\nb 3 4\n", "v.vec", "line 2 holds 1 numbers, expected 2"),
        (b"a 1 2\nb 3 x4\nc 5 y\n", "v.txt", "line 2 holds 'x4', expected a number"),
        (b"a 1 2\nb 1,5 2\n", "v.txt", "line 2 holds '1,5', expected a number"),
        (b"once upon a time\nthere was a cat\n", "v.txt", "line 1 holds 'upon', expected a number"),
        (b"a 1 2\nb 3 4\nc 5 nan\n", "v.txt", "line 3 holds a number that is not finite"),
        (b"a 1 2\nb -inf 4\n", "v.txt", "line 2 holds a number that is not finite"),
        (b"a 1 2\nb 1e39 4\n", "v.txt", "line 2 holds"),
        (b"a 1 2\n 3 4\n", "v.txt", "line 2 has no word"),
        (b"3 2\na 1 2\nb 3 4\n", "v.txt", "line 1 declares 3 words, the file has 2"),
        (b"1 2\na 1 2\nb 3 4\n", "v.txt", "line 1 declares 1 words, the file has 2"),
        (b"3 0\na\n", "v.txt", "line 1 declares vectors of 0 numbers"),
        (b"3 99999999999\na 1\n", "v.bin", "line 1 declares vectors of 99999999999 numbers"),
        (binary()[:-30], "v.bin", "v.bin: cut short: line 1 declares 8 words"),
        (binary() + b"more", "v.bin", "has data after the 8 words that line 1 declares"),
        (b"2 2\n" + b"x" * 70000, "v.bin", "entry 1 has no end of its word"),
        (b"1 1\n \0\0\0\0", "v.bin", "entry 1 has no word"),
        (b"2 1\na \0\0\0\0b \0\0\xc0\x7f", "v.bin", "entry 2 holds a number that is not finite"),
        ((793712314).to_bytes(4, "little") + b"\x0c\0\0\0", "v.bin", "bytes of the settings"),
        (b"PK\x03\x04 and so on", "glove.zip", "a zip archive"),
        (gzip.compress(text())[:-20], "v.txt.gz", "v.txt.gz: cannot be read"),
        (gzip.compress(text())[:20] + b"\xff" * 40, "v.txt.gz", "v.txt.gz: cannot be read"),
        (b"PAR1 and so on", "v.parquet", "v.parquet: not a Parquet file"),
    ],
)
def test_errors_of_files(content: bytes, name: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_word_vectors(put(tmp_path, content, name))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"once upon a time\nthere was a cat\n", "line 1 holds 'upon', expected a number"),
        (b"\n\ncat\ndog\n", "line 3 holds no numbers, expected a word and its vector"),
        (b"word,vector\na,1\n", "line 1 holds no numbers"),
        (b"2 3\nonce upon a time\nthere was a cat\n", "line 2 holds 'upon', expected a number"),
    ],
)
def test_other_text_is_refused_even_if_no_word_is_wanted(
    content: bytes, said: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as caught:
        read_word_vectors(put(tmp_path, content), {"not there"})
    assert str(caught.value).startswith(f"{tmp_path / 'v.txt'}: {said}")


def test_line_numbers_in_later_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", 100)
    rows = [f"w{i} {i} 1" for i in range(1, 400)]
    rows[300] = "w301 1 one"
    with pytest.raises(DataError, match="line 301 holds 'one'"):
        read_word_vectors(put(tmp_path, "\n".join(rows).encode()))
    rows[300] = "w301 1 nan"
    with pytest.raises(DataError, match="line 301 holds a number that is not finite"):
        read_word_vectors(put(tmp_path, "\n".join(rows).encode()))


def test_last_line_without_newline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", 1000)
    monkeypatch.setattr(module, "_LONGEST_LINE", 10_000)
    with pytest.raises(DataError, match="a line without an end"):
        read_word_vectors(put(tmp_path, b"x" * 100_000))


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"word": ["a"], "v": [[1.0]]}, "no column 'vector'; its columns: word"),
        ({"word": [1], "vector": [[1.0]]}, "expected strings and lists"),
        ({"word": ["a"], "vector": [1.0]}, "expected strings and lists"),
        ({"word": ["a"], "vector": [["x"]]}, "expected strings and lists"),
        ({"word": ["a", None], "vector": [[1.0], [1.0]]}, "row 2 holds a null"),
        ({"word": ["a", "b"], "vector": [[1.0], None]}, "row 2 holds a null"),
        ({"word": ["a", "b"], "vector": [[1.0, 2.0], [1.0, None]]}, "row 2 holds a null among"),
        ({"word": ["a", "b"], "vector": [[1.0, 2.0], [1.0]]}, "row 2 holds 1 numbers, expected 2"),
        (
            {"word": ["a"], "vector": pa.array([[]], pa.list_(pa.float32()))},
            "row 1 holds 0 numbers",
        ),
        ({"word": ["a", "b"], "vector": [[1.0], [np.inf]]}, "row 2 holds a number that is not"),
        ({"word": ["a", "b"], "vector": [[1.0], [1e39]]}, "row 2 holds a number that is not"),
        ({"word": ["a", ""], "vector": [[1.0], [1.0]]}, "row 2 has no word"),
    ],
)
def test_errors_of_parquet(table: dict[str, object], said: str, tmp_path: Path) -> None:
    path = tmp_path / "v.parquet"
    pq.write_table(pa.table(table), path)
    with pytest.raises(DataError) as caught:
        read_word_vectors(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


def test_parquet_of_no_rows(tmp_path: Path) -> None:
    schema = pa.schema([("word", pa.string()), ("vector", pa.list_(pa.float32()))])
    pq.write_table(schema.empty_table(), tmp_path / "v.parquet")
    with pytest.raises(DataError, match="no word vectors in it"):
        read_word_vectors(tmp_path / "v.parquet")


def test_parquet_cut_short(tmp_path: Path) -> None:
    path = parquet(tmp_path / "v.parquet", pa.list_(pa.float32()))
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError, match="not a Parquet file, or one cut short"):
        read_word_vectors(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_word_vectors(tmp_path / "v.txt")
    with pytest.raises(FormatError, match="expected a folder that fastseq wrote"):
        read_word_vectors(tmp_path)
    with pytest.raises(SettingsError, match="threads"):
        read_word_vectors(put(tmp_path, text()), threads=0)


# ---- damaged lines that are skipped

BAD_LINES = {
    " 1 2 3 4 5": "has no word before its numbers",
    "1 2 3 4 5": "has no word before its numbers",
    "word 1 2 3 4": "holds 4 numbers, expected 5",
    "word 1 2 x 4 5": "holds 'x', expected a number",
    "word 1 2 nan 4 5": "holds a number that is not finite",
    "word 1 2 1e99 4 5": "holds a number that is not finite",
    "word": "holds 0 numbers, expected 5",
    "the 1 2 x 4 5": "holds 'x', expected a number",  # a good one of the word comes later
}


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("at", [0, 3, 8])
@pytest.mark.parametrize("bad", BAD_LINES)
@pytest.mark.parametrize("block", [1 << 22, 40])
def test_damaged_lines_are_skipped_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, header: bool, at: int, bad: str, block: int
) -> None:
    monkeypatch.setattr(module, "_BLOCK", block)
    if not header and block == 40 and at == 0:
        pytest.skip("no other line tells how many numbers there are")
    lines = text().decode().split("\n")[:-1]
    lines[at:at] = [bad, bad]
    if header:
        lines.insert(0, f"{len(lines)} 5")
    path = put(tmp_path, "\n".join(lines).encode())
    first = at + 1 + header
    with pytest.raises(DataError, match=r"v\.txt: line \d+ "):
        read_word_vectors(path, threads=2)
    said = rf"v\.txt: damaged vectors skipped: 2: line {first} {BAD_LINES[bad]}, …$"
    with pytest.warns(FastseqWarning, match=said):
        words, vectors = read_word_vectors(path, threads=2, skip_bad_lines=True)
    assert words == WORDS
    np.testing.assert_array_equal(vectors, VECTORS)
    wanted = {"猫", "7", "word"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FastseqWarning)
        words, vectors = read_word_vectors(path, wanted, threads=2, skip_bad_lines=True)
    assert words == ["猫", "7"]
    np.testing.assert_array_equal(vectors, VECTORS[[1, 4]])


def test_intact_file_is_read_without_a_warning(tmp_path: Path) -> None:
    for name, content in FORMS.items():
        path = put(tmp_path, content, name)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            words, vectors = read_word_vectors(path, threads=1, skip_bad_lines=True)
        expected = read_word_vectors(path, threads=1)
        assert words == expected[0]
        np.testing.assert_array_equal(vectors, expected[1])


def test_damaged_entries_of_the_binary_form_are_skipped(tmp_path: Path) -> None:
    header, rows = b"10 5\n", binary().split(b"\n", 1)[1]
    bad = [b" " + VECTORS[0].tobytes(), b"x " + np.full(5, np.nan, "<f4").tobytes()]
    path = put(tmp_path, header + b"\n".join(bad) + b"\n" + rows, "v.bin")
    with pytest.raises(DataError, match="entry 1 has no word"):
        read_word_vectors(path)
    with pytest.warns(FastseqWarning, match="skipped: 2: entry 1 has no word"):
        words, vectors = read_word_vectors(path, skip_bad_lines=True)
    assert words == WORDS
    np.testing.assert_array_equal(vectors, VECTORS)


def test_file_of_damaged_lines_only_is_rejected(tmp_path: Path) -> None:
    path = put(tmp_path, b"just some\nlines of words\nwithout any number\n")
    with pytest.raises(DataError, match=r"no word vectors in it, . damaged ones skipped: line"):
        read_word_vectors(path, skip_bad_lines=True)
    short = put(tmp_path, text(header=True)[:-250], "cut.txt")
    with pytest.raises(DataError, match="declares 8 words, the file has"):
        read_word_vectors(short, skip_bad_lines=True)
