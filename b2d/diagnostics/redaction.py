"""A text that may be shown to others: without secrets, and without whose it was."""

import re
from collections.abc import Collection, Iterable, Iterator
from urllib.parse import quote, unquote

REDACTED = "***"
MIN_SECRET_LENGTH = 4  # signs of a secret that is looked for as it is: shorter ones are everywhere
NO_NAMES = frozenset(
    ["root", "docker", "user", "admin", "test", "dev", "home", "debian", "ubuntu", "boot2docker", "b2d"]
)  # they tell nothing of anybody

WORD = (
    r"(?:pass(?:word|wd|phrase)|(?<![a-z])pass(?![a-z])|secret|token|credential|auth(?!orit)|cookie|signature"
    r"|(?:api|access|private|secret|license|account|encryption|signing|master)[-_]?key|(?<=[a-z]_)pwd|(?<=;)pwd|requirepass)"
)
NAME = re.compile(WORD, re.IGNORECASE)
PEM_BEGIN, PEM_END = (re.compile(rf"-----{word} [A-Z0-9 ]+-----") for word in ("BEGIN", "END"))
PEM_LIMIT = 20_000  # signs of a key; what ends later ends another
PEM_CUT = re.compile(r"[A-Za-z0-9+/=\s\\]*")  # what is left of one without an end
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
# Passwords that programs take without a name: curl -u, mysql -p, docker login -p, sshpass -p, redis-cli -a, ~/.netrc
# and ~/.pgpass (netrc(5), libpq). A pair of numbers is a user and a group, or two ports.
ARGUMENTS = (
    re.compile(
        r"(?P<name>(?<!\S)(?:-u|--user|-U|--proxy-user)(?:[ =]|(?=\S))[\"']?)(?P<quote>)"
        r"(?!\d{1,10}:\d)[^\s:\"']{1,200}:[^\s\"']+"
    ),
    re.compile(
        r"(?P<name>\b(?:mysql|mariadb)[\w\-]{0,20}\s(?:[^\n|;&]{0,500}?\s)?-p)(?P<quote>[\"']?)[^\s\"']+(?P=quote)"
    ),
    re.compile(
        r"(?P<name>\b(?:login|sshpass|htpasswd|redis-cli)\s(?:[^\n|;&]{0,500}?\s)?-[pa] ?)"
        r"(?P<quote>[\"']?)[^\s\"']+(?P=quote)"
    ),
    re.compile(r"(?P<name>\b(?:machine|login)\s+\S{1,200}\s+password\s+)(?P<quote>)\S+", re.IGNORECASE),
    re.compile(r"(?P<name>^[\w.*\-]{1,200}:(?:\d{4,5}|\*):[^:\s]{1,100}:[^:\s]{1,100}:)(?P<quote>)\S+", re.MULTILINE),
    re.compile(rf"(?P<name><(?!/)[^<>\s]{{0,60}}{WORD}[^<>]{{0,60}}>)(?P<quote>)[^<]+", re.IGNORECASE),
    re.compile(r"(?P<name>\bbearer\s+)(?P<quote>)[\w\-.~+/]{16,}=*", re.IGNORECASE),
    re.compile(r"(?P<name>\bPrivate-Lines: \d+\n)(?P<quote>)(?:[A-Za-z0-9+/=]+\n?)+"),  # PuTTY's keys
    re.compile(r"(?P<name>\b(?:hooks\.slack\.com/\w+/|discord(?:app)?\.com/api/webhooks/))(?P<quote>)[\w/\-]+"),
)
# What tokens look like, as those who give them out document it, mostly so that scanners find them.
TOKEN = re.compile(
    r"(?:(?<![A-Za-z0-9])(?:"
    r"gh[pousr]_\w{20,}|github_pat_\w{20,}|gl(?:pat|dt|rt|cbt|ptt|ft|imt|agent|soat|ffct)-[\w\-]{16,}|GR1348941[\w\-]{20}"
    r"|(?:AKIA|ASIA|ABIA|ACCA|A3T[A-Z0-9])[A-Z0-9]{16}"
    r"|xox[abeoprs]-[\w\-]{10,}|xapp-\d-[\w\-]{10,}"
    r"|dckr_[a-z]+_[\w\-]{16,}|npm_\w{20,}|pypi-[\w\-]{16,}|rubygems_[0-9a-f]{32,}"
    r"|(?=[\w\-]{0,300}\d)sk-[\w\-]{16,}|(?:hf|gsk|r8)_[A-Za-z0-9]{20,}|pplx-[A-Za-z0-9]{32,}|xai-[A-Za-z0-9]{32,}"
    r"|AIza[\w\-]{30,}|ya29\.[\w\-]{16,}|GOCSPX-[\w\-]{20,}|1//0[\w\-]{20,}"
    r"|[srp]k_(?:live|test)_\w{10,}|whsec_[\w+/=]{16,}"
    r"|do[opr]_v1_[0-9a-f]{32,}|dapi[0-9a-f]{32}|glsa_\w{20,}|glc_[\w+/=]{20,}"
    r"|SK[0-9a-f]{32}|SG\.[\w\-]{16,}\.[\w\-]{16,}|key-[0-9a-f]{32}|[0-9a-f]{32}-us\d{1,2}"
    r"|\w{3}[78]Q~[\w~.\-]{31,}|sq0[a-z]{3}-[\w\-]{20,}|shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}"
    r"|hv[sbr]\.[\w\-]{20,}|[A-Za-z0-9]{14}\.atlasv1\.[\w\-]{40,}|lin_api_[A-Za-z0-9]{20,}|ntn_[A-Za-z0-9]{20,}"
    r"|secret_[A-Za-z0-9]{40,}|dp\.[a-z]{2,5}\.[\w\-.]{20,}|pul-[0-9a-f]{40}|PMAK-[0-9a-f\-]{24,}|NRAK-[A-Z0-9]{20,}"
    r"|HRKU-[\w\-]{30,}|tskey-[a-z]+-[\w\-]{16,}|fo1_[\w\-]{20,}|FlyV1 [\w\-]{4,}_[\w\-+/=,]{16,}"
    r"|nfp_\w{30,}|sbp_[0-9a-f]{32,}|pscale_\w{2,5}_[\w\-.]{20,}|ATATT3[\w\-=]{20,}|ATBB\w{20,}|AKCp\w{20,}"
    r"|sntry[su]_[\w+/=\-]{20,}|dt0[a-z]\d{2}\.[A-Z0-9]{20,}\.[A-Z0-9]{20,}|aio_\w{20,}|EAAC\w{30,}"
    r"|pat[A-Za-z0-9]{14}\.[0-9a-f]{32,}|AGE-SECRET-KEY-1[A-Z0-9]{20,}"
    r"|eyJ[\w\-]{8,}\.[\w\-]+\.[\w\-]*)"
    r"|(?<!\d)\d{8,10}:AA[\w\-]{30,})"
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
        told = {re.escape(_is_whole_word(name)) for name in names if len(name) > 2 and name not in NO_NAMES}
        self._names = re.compile(rf"(?<!\w)(?:{'|'.join(told)})(?!\w)") if told else None

    def clean(self, text: str) -> str:
        """The text as it may be shown."""
        text = _without_keys(_is_whole_word(text))
        text = self._secrets.sub(REDACTED, text) if self._secrets else text
        text = QUERY.sub(rf"\1{REDACTED}", USER.sub(f"://{REDACTED}@", text))
        text = BARE_USER.sub(f"{REDACTED}@", text)
        for pattern in (*ARGUMENTS, HEADER, OPTION, TYPED, SAID):
            text = pattern.sub(_without_value, text)
        text = TOKEN.sub(REDACTED, text)
        text = self._folders.sub("~", text) if self._folders else text
        return self._names.sub("~", text) if self._names else text


def _without_keys(text: str) -> str:
    """The text without keys and certificates as PEM writes them (RFC 7468). Takes time in proportion to it."""
    kept, at = [], 0
    end = PEM_END.search(text)
    for begin in PEM_BEGIN.finditer(text):
        if begin.start() < at:
            continue
        while end is not None and end.start() < begin.end():
            end = PEM_END.search(text, begin.end())
        whole = end is not None and end.start() - begin.end() <= PEM_LIMIT
        rest = end if whole else PEM_CUT.match(text, begin.end())
        assert rest is not None  # it matches nothing too
        kept += [text[at : begin.start()], REDACTED]
        at = rest.end()
    return "".join([*kept, text[at:]])


def passwords(text: str) -> Iterator[str]:
    """What stands before an @ in addresses, which may stand elsewhere without one."""
    for user, password in (found for pattern in LOGINS for found in pattern.findall(text)):
        yield password
        yield unquote(password)
        if len(user) >= 2 * MIN_SECRET_LENGTH:  # a token may be there
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
    return f"{name}{mark}{REDACTED}{mark}"


def _forms(secret: str) -> Iterator[str]:
    import json  # here: a bug is written down without it too

    whole = _is_whole_word(secret)
    if len(whole) >= MIN_SECRET_LENGTH:
        yield from (whole, json.dumps(whole)[1:-1], json.dumps(whole, ensure_ascii=False)[1:-1], repr(whole)[1:-1])
        yield from (quote(whole, safe=""), quote(whole))


def _is_whole_word(text: str) -> str:
    """Text as a file holds it: where Python takes paths for ASCII, their other letters are half bytes."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    except UnicodeEncodeError:  # half a pair that is no byte
        return text.encode("utf-8", "replace").decode()


def _any_of(texts: Collection[str]) -> re.Pattern[str] | None:
    """The longest first: one may begin with another."""
    return re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True)))) if texts else None
