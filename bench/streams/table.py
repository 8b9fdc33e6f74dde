"""table.py: the lines of JSON that `graft bench --json` writes as tables of Markdown, one for each command.

Usage: table.py LINES
"""

import json
import sys


def number(x):
    """Four digits, more only in front of the point, and no powers of ten."""
    return f"{x:.4g}" if abs(x) < 1000 else f"{x:.0f}"


def spread_of(r, key):
    """Of one sample there is none."""
    return f"{100 * r[key]:.0f} %" if r["samples"] > 1 else ""


def main():
    command = None
    for line in open(sys.argv[1], encoding="utf-8"):
        r = json.loads(line)
        if r["command"] != command:
            command = r["command"]
            shown = command.split(" --samples")[0]
            print(f"\n`{shown}`: {r['subject']}\n")
            print("| case | value | spread | beside | spread |")
            print("| --- | --- | --- | --- | --- |")
        beside, spread = "", ""
        if r.get("ratio") is not None and r["baseline_case"] != r["case"]:
            beside = f"{r['ratio']:.3f} × {r['baseline_case']}"
            spread = spread_of(r, "ratio_spread")
        value = f"{number(r['value'])} {r['unit']}"
        print(f"| {r['case']} | {value} | {spread_of(r, 'spread')} | {beside} | {spread} |")


if __name__ == "__main__":
    main()
