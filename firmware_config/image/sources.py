"""`sources.py DIRECTORY`: Debian 12's sources in apt's settings, for the image's root file system.

Prints them in deb822's form.  Other repositories of the machine are left out: they are told
by their suites.
"""

import sys
from pathlib import Path

SUITES = ("bookworm", "bookworm-updates", "bookworm-security")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def stanza(uri: str, suites: list[str]) -> str:
    return (
        f"Types: deb\nURIs: {uri}\nSuites: {' '.join(suites)}\n"
        f"Components: main\nSigned-By: {KEYRING}\n"
    )


def from_deb822(text: str) -> list[str]:
    found = []
    for paragraph in text.split("\n\n"):
        fields = {
            key.strip().lower(): value.strip()
            for key, separator, value in (
                line.partition(":")
                for line in paragraph.splitlines()
                if line[:1] not in {"#", " ", "\t"}
            )
            if separator
        }
        suites = [suite for suite in fields.get("suites", "").split() if suite in SUITES]
        binary = "deb" in fields.get("types", "").split()
        if suites and binary and "main" in fields.get("components", "").split():
            found += [stanza(uri, suites) for uri in fields.get("uris", "").split()]
    return found


def from_list(text: str) -> list[str]:
    found = []
    for line in text.splitlines():
        words = line.split("#")[0].split()
        if words[:1] != ["deb"]:
            continue
        if len(words) > 1 and words[1].startswith("["):
            while words and not words[1].endswith("]"):
                del words[1]
            del words[1]
        if len(words) > 3 and words[2] in SUITES and "main" in words[3:]:
            found.append(stanza(words[1], [words[2]]))
    return found


def main(apt: Path) -> int:
    found = []
    for path in [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]:
        if path.suffix == ".sources":
            found += from_deb822(path.read_text())
        elif path.suffix == ".list" and path.exists():
            found += from_list(path.read_text())
    if not found:
        print("image: apt of this machine knows no Debian 12; give SOURCES=FILE", file=sys.stderr)
        return 3
    print("\n".join(dict.fromkeys(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
