"""What the reference values cover, counted from the files: `python -m tests.reference.count_kinds`."""

from pathlib import Path

import pandas as pd

HERE = Path(__file__).parent
FILES = {
    "reference": "six synthetic waves",
    "reference_merged_strata": "synthetic, merged strata",
    "reference_supplied": "supplied weights",
}


def read(name: str) -> pd.DataFrame:
    """One file of reference values; numbers as numbers, codes as text, a mean's response as the empty text."""
    codes = dict.fromkeys(("geography_code", "category", "response"), str)
    table = pd.read_csv(HERE / f"{name}.csv", dtype=codes)
    return table.fillna({"response": ""})


def kinds(table: pd.DataFrame) -> dict[str, int]:
    """Number of reference rows of each kind; a row may be of several kinds."""
    level = table["kind"] != "difference"
    share = level & (table["measure"] == "share")
    post_stratified = table["variance_method"] == "post_stratified"
    counted = {
        "all": table["kind"] != "",
        "of the country": table["kind"] == "country",
        "of the country with weights taken as fixed": table["kind"] == "scheme",
        "of an age band or a gender (domain)": table["kind"] == "domain",
        "of a trust (domain)": table["kind"] == "trust",
        "trust minus country": table["kind"] == "difference",
        "post-stratified": post_stratified,
        "means": table["measure"] == "mean",
        "shares that nobody chose (p = 0)": share & (table["estimate"] == 0),
        "shares that everybody chose (p = 1)": share & (table["estimate"] == 100),
        "on fewer than 30 answers": level & (table["base"] < 30),
        "without degrees of freedom": level & (table["df"] < 1),
    }
    return {kind: int(rows.sum()) for kind, rows in counted.items()}


def as_markdown() -> str:
    """The counts as a table, one column a file."""
    columns = {text: kinds(read(name)) for name, text in FILES.items()}
    lines = ["| estimates | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    for kind in next(iter(columns.values())):
        lines.append(f"| {kind} | " + " | ".join(f"{counts[kind]:,}" for counts in columns.values()) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(as_markdown())
