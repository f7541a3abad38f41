"""A text that may be shown to others: without secrets, and without whose it was."""

import json
import re
from collections.abc import Collection, Iterable, Iterator
from urllib.parse import quote, unquote

GONE = "***"
SHORTEST = 4  # signs of a secret that is looked for as it is: shorter ones are everywhere
NO_NAMES = frozenset(
    ["root", "docker", "user", "admin", "test", "dev", "home", "debian", "ubuntu", "boot2docker", "b2d"]
)  # they tell nothing of anybody

WORD = (
    r"(?:pass(?:word|wd|phrase)|(?<![a-z])pass(?![a-z])|secret|token|credential|auth(?!orit)|cookie|signature"
    r"|(?:api|access|private|secret|license)[-_]?key)"
)
NAME = re.compile(WORD, re.IGNORECASE)
PEM = re.compile(r"-----BEGIN [A-Z0-9 ]+-----(?:.{0,20000}?-----END [A-Z0-9 ]+-----|[A-Za-z0-9+/=\s\\]*)", re.DOTALL)
USER = re.compile(r"://[^\s\"'<>]{0,2000}@")
QUERY = re.compile(r"(://[^\s\"'<>?#]{0,2000}[?#])[^\s\"'<>]+")
BARE_USER = re.compile(r"(?<![\w/.+%\-])[\w.+%\-]{1,100}:[^\s:@/\"']{1,500}@(?=[\w.\-])")
# name = value, as the shell, TOML, JSON (also inside a string), headers and options write it; JSON stays JSON
SAID = re.compile(
    rf"(?P<name>{WORD}[\w.\-]{{0,60}}(?:\\?[\"'])?\s*[=:]\s*)"
    r"(?!\{|\[|(?:true|false|null)\b)"
    r"(?:(?P<quote>\\\"|\"|')(?:(?!(?P=quote))(?:\\.|.))*+(?:(?P=quote)|$)|(?:basic|bearer|digest)\s+[^\s\"']+"
    r"|[^\s\"'}\]]+?(?=[,;]?(?:\s|$|[\"'}\]])))",
    re.IGNORECASE | re.MULTILINE,
)
OPTION = re.compile(
    rf"(?P<name>[\"']--?[\w\-]{{0,60}}{WORD}[\w\-]{{0,60}}[\"'],\s*)(?P<quote>[\"'])[^\"']*[\"']", re.IGNORECASE
)
TYPED = re.compile(
    rf"(?P<name>(?<!\S)--?[\w\-]{{0,60}}{WORD}[\w\-]{{0,60}} )(?:(?P<quote>[\"'])[^\"']*[\"']|\S+)", re.IGNORECASE
)
HEADER = re.compile(r"(?P<name>(?:cookie|authorization)\s*:\s*)(?P<quote>)[^\r\n\"']+", re.IGNORECASE)
TOKEN = re.compile(
    r"\b(?:gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w\-]{16,}|(?:AKIA|ASIA)[A-Z0-9]{16}|xox[abpors]-[\w\-]{10,}"
    r"|dckr_[a-z]+_[\w\-]{16,}|npm_\w{20,}|eyJ[\w\-]{8,}\.[\w\-]+\.[\w\-]*)"
)
LOGINS = (
    re.compile(r"://([^\s\"'<>/:@]*):?([^\s\"'<>]*)@"),
    re.compile(r"(?<![\w/.+%\-])([\w.+%\-]+):([^\s:@/\"']+)@(?=[\w.\-])"),
)


class Redaction:
    """Takes out what looks like a secret, and what is known to be one in whatever form it is written."""

    def __init__(self, secrets: Iterable[str], folders: Iterable[str] = (), names: Iterable[str] = ()) -> None:
        known = {form for secret in secrets for form in _forms(secret.strip())}
        self._secrets = _any_of(known)
        self._folders = _any_of({form for folder in folders if len(folder) > 1 for form in _forms(folder)})
        told = {re.escape(_whole(name)) for name in names if len(name) > 2 and name not in NO_NAMES}
        self._names = re.compile(rf"(?<!\w)(?:{'|'.join(told)})(?!\w)") if told else None

    def clean(self, text: str) -> str:
        """The text as it may be shown."""
        text = PEM.sub(GONE, _whole(text))
        text = self._secrets.sub(GONE, text) if self._secrets else text
        text = QUERY.sub(rf"\1{GONE}", USER.sub(f"://{GONE}@", text))
        text = BARE_USER.sub(f"{GONE}@", text)
        for pattern in (HEADER, OPTION, TYPED, SAID):
            text = pattern.sub(_without_value, text)
        text = TOKEN.sub(GONE, text)
        text = self._folders.sub("~", text) if self._folders else text
        return self._names.sub("~", text) if self._names else text


def passwords(text: str) -> Iterator[str]:
    """What stands before an @ in addresses, which may stand elsewhere without one."""
    for user, password in (found for pattern in LOGINS for found in pattern.findall(text)):
        yield password
        yield unquote(password)
        if len(user) >= 2 * SHORTEST:  # a token may be there
            yield user


def values_of(document: object) -> Iterator[str]:
    """What a JSON document says under names of secrets."""
    if isinstance(document, dict):
        for name, value in document.items():
            if isinstance(value, str) and NAME.search(str(name)):
                yield value
            else:
                yield from values_of(value)
    elif isinstance(document, list):
        for value in document:
            yield from values_of(value)


def _without_value(found: re.Match[str]) -> str:
    name = found["name"]
    of_json = '"' if '"' in name and "\\" not in name else ""  # a number there, which *** is not
    mark = found["quote"] or of_json
    return f"{name}{mark}{GONE}{mark}"


def _forms(secret: str) -> Iterator[str]:
    whole = _whole(secret)
    if len(whole) >= SHORTEST:
        yield from (whole, json.dumps(whole)[1:-1], json.dumps(whole, ensure_ascii=False)[1:-1], repr(whole)[1:-1])
        yield from (quote(whole, safe=""), quote(whole))


def _whole(text: str) -> str:
    """Text as a file holds it: where Python takes paths for ASCII, their other letters are half bytes."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    except UnicodeEncodeError:  # half a pair that is no byte
        return text.encode("utf-8", "replace").decode()


def _any_of(texts: Collection[str]) -> re.Pattern[str] | None:
    """The longest first: one may begin with another."""
    return re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True)))) if texts else None
