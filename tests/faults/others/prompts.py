"""Files of prompts as spreadsheets, editors and other programs write them, and odd paths."""

from __future__ import annotations

from pathlib import Path

from tests.faults.others.case import Case, Kit, Make

READ = "dataset audit --dataset {folder}/"
RUN = "RUN --dataset {folder}/"
ROWS = [
    (f"a {word} on a sand floor", index) for index, word in enumerate(["cat", "dog", "hen", "cow"])
]
SIMPLE = "prompt,seed\n" + "".join(f"{prompt},{seed}\n" for prompt, seed in ROWS)
PLAIN = "".join(f"{prompt}\n" for prompt, _ in ROWS)
MANY = "prompt,split,seed\n" + "".join(
    f"a {word} {size} on sand,{split},{seed}\n"
    for seed, (word, size, split) in enumerate(
        (word, size, split)
        for word in ["cat", "dog", "hen"]
        for size in ("small", "large")
        for split in ("train", "test")
    )
)


def file(name: str, text: str, encoding: str = "utf-8") -> Make:
    """A file of this text."""
    return lambda kit, folder: (folder / name).write_bytes(text.encode(encoding))


def _folder(kit: Kit, folder: Path) -> None:
    (folder / "p.csv").mkdir()


def _deep(kit: Kit, folder: Path) -> None:
    """A folder whose name holds what shells, TOML and HTML treat in their own ways."""
    odd = folder / "50%&<b>'ü'#1{x}"
    odd.mkdir()
    (odd / "P.CSV").write_text(SIMPLE)


PROMPTS: tuple[Case, ...] = (
    Case(
        "tabs, suffix in capitals",
        file("P.TSV", SIMPLE.replace(",", "\t")),
        READ + "P.TSV",
        "4 items",
        0,
    ),
    Case("a line each, suffix in capitals", file("P.TXT", PLAIN), READ + "P.TXT", "4 items", 0),
    Case("a byte order mark", file("p.csv", SIMPLE, "utf-8-sig"), READ + "p.csv", "4 items", 0),
    Case(
        "a byte order mark in text", file("p.txt", PLAIN, "utf-8-sig"), READ + "p.txt", "4 items", 0
    ),
    Case(
        "line ends of old Macs",
        file("p.csv", SIMPLE.replace("\n", "\r")),
        READ + "p.csv",
        "4 items",
        0,
    ),
    Case("UTF-16", file("p.csv", SIMPLE, "utf-16"), READ + "p.csv", "UTF-8"),
    Case(
        "text in UTF-16",
        file("p.txt", PLAIN, "utf-16"),
        READ + "p.txt",
        "save it as plain text in UTF-8",
    ),
    Case("tabs in UTF-16", file("p.tsv", SIMPLE, "utf-16-le"), READ + "p.tsv", "UTF-8"),
    Case(
        "text in Latin-1",
        file("p.txt", PLAIN + "a bär\n", "latin-1"),
        READ + "p.txt",
        "line 5: this is not UTF-8; save it as plain text",
    ),
    Case("a NUL byte", file("p.csv", SIMPLE + "a\0b,4\n"), READ + "p.csv", "line 6"),
    Case("empty", file("p.csv", ""), READ + "p.csv", "p.csv"),
    Case("empty text", file("p.txt", " \n\n"), READ + "p.txt", "holds no prompt"),
    Case("a header alone", file("p.csv", "prompt,seed\n"), READ + "p.csv", "holds no prompt"),
    Case(
        "ids that repeat",
        file("p.csv", "id,prompt\n1,a cat\n1,a dog\n"),
        READ + "p.csv",
        "stands on line 2 already",
    ),
    Case(
        "thousands of columns",
        file("p.csv", ",".join(f"c{i}" for i in range(5000)) + "\n" + "x," * 4999 + "x\n"),
        READ + "p.csv",
        "no column 'prompt'",
    ),
    Case(
        "thousands of columns beside the prompt",
        file(
            "p.csv",
            "prompt," + ",".join(f"c{i}" for i in range(5000)) + "\na cat" + "," * 5000 + "\n",
        ),
        READ + "p.csv",
        "1 items",
        0,
    ),
    Case(
        "semicolons", file("p.csv", SIMPLE.replace(",", ";")), READ + "p.csv", "no column 'prompt'"
    ),
    Case(
        "a quote that never ends",
        file("p.csv", 'prompt\n"a cat\na dog\n'),
        READ + "p.csv",
        "check its quotes",
    ),
    Case(
        "a prompt of 200,000 characters",
        file("p.csv", "prompt\n" + "a" * 200_000 + "\n"),
        READ + "p.csv",
        "field larger than",
    ),
    Case(
        "a seed of 2^63", file("p.csv", f"prompt,seed\na cat,{2**63}\n"), READ + "p.csv", "2^63 - 1"
    ),
    Case("a folder in place of the file", _folder, READ + "p.csv", "cannot read the prompts"),
    Case("no file", lambda kit, folder: None, READ + "p.tsv", "cannot read the prompts"),
    Case("JSON lines", file("p.jsonl", '{"prompt": "a cat"}\n'), READ + "p.jsonl", ".csv"),
    Case("all in one split", file("p.csv", MANY.replace("test", "train")), RUN + "p.csv", "test"),
    Case(
        "three prompts", file("p.csv", SIMPLE.rsplit("\n", 2)[0] + "\n"), RUN + "p.csv", "training"
    ),
    Case(
        "prompts that the encoder cuts",
        file("p.csv", MANY.replace(" on sand", " and a cow" * 40)),
        RUN + "p.csv --model {base} --labeler tiny",
        "are longer than",
        0,
    ),
    Case(
        "a name with signs of every kind",
        _deep,
        "dataset audit --dataset {folder}/50%&<b>'ü'#1{{x}}/P.CSV",
        "4 items",
        0,
    ),
)
