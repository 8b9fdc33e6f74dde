"""table.py: the lines of JSON that `graft bench --json` writes as tables of Markdown, one for each command.

Usage: table.py LINES
"""

import json
import sys


def number(x):
    return f"{x:.4g}"


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
            spread = f"{100 * r['ratio_spread']:.0f} %"
        value = f"{number(r['value'])} {r['unit']}"
        print(f"| {r['case']} | {value} | {100 * r['spread']:.0f} % | {beside} | {spread} |")


if __name__ == "__main__":
    main()
