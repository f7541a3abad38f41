"""Redaction of texts to share: without secrets, and without the user's names and folders."""

import re
from collections.abc import Collection, Iterable, Iterator
from urllib.parse import quote, unquote

from b2d.network.endpoints import REDACTED

MIN_SECRET_LENGTH = 4  # characters of a secret that is searched literally: shorter ones occur everywhere
# common names, which identify nobody
NO_NAMES = frozenset(
    ["root", "docker", "user", "admin", "test", "dev", "home", "debian", "ubuntu", "boot2docker", "b2d"]
)

WORD = (
    r"(?:pass(?:word|wd|phrase)|(?<![a-z])pass(?![a-z])|secret|token|credential|auth(?!orit)|cookie|signature"
    r"|(?:api|access|private|secret|license|account|encryption|signing|master)[-_]?key|(?<=[a-z]_)pwd|(?<=;)pwd|requirepass)"
)
NAME = re.compile(WORD, re.IGNORECASE)
PEM_BEGIN, PEM_END = (re.compile(rf"-----{word} [A-Z0-9 ]+-----") for word in ("BEGIN", "END"))
PEM_LIMIT = 20_000  # characters of a key; an END line after more of them belongs to another key
PEM_CUT = re.compile(r"[A-Za-z0-9+/=\s\\]*")  # the rest of a key without an END line
USER = re.compile(r"://[^\s\"'<>]{0,2000}@")
QUERY = re.compile(r"(://[^\s\"'<>?#]{0,2000}[?#])[^\s\"'<>]+")
BARE_USER = re.compile(r"(?<![\w/.+%\-])[\w.+%\-]{1,100}:[^\s:@/\"']{1,500}@(?=[\w.\-])")
# name = value, as the shell, TOML, JSON (also inside a string), headers and options write it; JSON stays valid
ASSIGNED = re.compile(
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
# Passwords in arguments that do not name them: curl -u, mysql -p, docker login -p, sshpass -p, redis-cli -a, ~/.netrc
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
# The formats of tokens, as their issuers document them, mostly for secret scanners.
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
    """A redaction of known secrets in any of their spellings, and of everything that looks like a secret."""

    def __init__(self, secrets: Iterable[str], folders: Iterable[str] = (), names: Iterable[str] = ()) -> None:
        """Redact `secrets`, `folders` and `names` wherever they occur; short and common names are not redacted."""
        known = {form for secret in secrets for form in _forms(secret.strip())}
        self._secrets = _any_of(known)
        self._folders = _any_of({form for folder in folders if len(folder) > 1 for form in _forms(folder)})
        escaped = {re.escape(_decode_surrogates(name)) for name in names if len(name) > 2 and name not in NO_NAMES}
        self._names = re.compile(rf"(?<!\w)(?:{'|'.join(escaped)})(?!\w)") if escaped else None

    def clean(self, text: str) -> str:
        """Return the text without secrets, folders and names."""
        text = _without_keys(_decode_surrogates(text))
        text = self._secrets.sub(REDACTED, text) if self._secrets else text
        text = QUERY.sub(rf"\1{REDACTED}", USER.sub(f"://{REDACTED}@", text))
        text = BARE_USER.sub(f"{REDACTED}@", text)
        for pattern in (*ARGUMENTS, HEADER, OPTION, TYPED, ASSIGNED):
            text = pattern.sub(_without_value, text)
        text = TOKEN.sub(REDACTED, text)
        text = self._folders.sub("~", text) if self._folders else text
        return self._names.sub("~", text) if self._names else text


def _without_keys(text: str) -> str:
    """Return the text without PEM keys and certificates (RFC 7468). Takes time linear in its length."""
    pieces, position = [], 0
    end = PEM_END.search(text)
    for begin in PEM_BEGIN.finditer(text):
        if begin.start() < position:
            continue
        while end is not None and end.start() < begin.end():
            end = PEM_END.search(text, begin.end())
        is_whole = end is not None and end.start() - begin.end() <= PEM_LIMIT
        rest = end if is_whole else PEM_CUT.match(text, begin.end())
        assert rest is not None  # PEM_CUT matches the empty string too
        pieces += [text[position : begin.start()], REDACTED]
        position = rest.end()
    return "".join([*pieces, text[position:]])


def find_credentials(text: str) -> Iterator[str]:
    """Yield the credentials before an @ in URLs and addresses, which may occur elsewhere without one."""
    for user, password in (groups for pattern in LOGINS for groups in pattern.findall(text)):
        yield password
        yield unquote(password)
        if len(user) >= 2 * MIN_SECRET_LENGTH:  # the user name may be a token
            yield user


def find_secret_values(document: object) -> Iterator[str]:
    """Yield the strings of a JSON document whose keys name secrets."""
    if isinstance(document, dict):
        for name, value in document.items():
            if isinstance(value, str) and NAME.search(str(name)):
                yield value
            else:
                yield from find_secret_values(value)
    elif isinstance(document, list):
        for value in document:
            yield from find_secret_values(value)


def _without_value(match: re.Match[str]) -> str:
    name = match["name"]
    json_quote = '"' if '"' in name and "\\" not in name else ""  # a JSON number becomes a string
    mark = match["quote"] or json_quote
    return f"{name}{mark}{REDACTED}{mark}"


def _forms(secret: str) -> Iterator[str]:
    import json  # imported when needed: the log of an unexpected error does not need it

    whole = _decode_surrogates(secret)
    if len(whole) >= MIN_SECRET_LENGTH:
        yield from (whole, json.dumps(whole)[1:-1], json.dumps(whole, ensure_ascii=False)[1:-1], repr(whole)[1:-1])
        yield from (quote(whole, safe=""), quote(whole))


def _decode_surrogates(text: str) -> str:
    """Return text as in a file: in an ASCII locale Python represents other letters of paths as surrogates."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    except UnicodeEncodeError:  # a surrogate that does not stand for a byte
        return text.encode("utf-8", "replace").decode()


def _any_of(texts: Collection[str]) -> re.Pattern[str] | None:
    """Return a pattern of all texts, longest first, as a text may be the prefix of another; None for no texts."""
    return re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True)))) if texts else None
