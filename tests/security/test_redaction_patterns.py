"""Every kind of secret in published pattern lists is redacted in shared text, and the rest stays readable (case L7).

The tokens are made up and assembled here, so that no file contains a whole one.
"""

import pytest

from b2d.diagnostics.redaction import Redaction
from b2d.network.endpoints import REDACTED
from tests.support.timing import cpu_limit

HEX, MIXED, UPPER = "0a1b2c3d4e5f6789" * 4, "aB3dE5fG7hJ9kL1mN0pQ" * 4, "AB2CD4EF6GH8JK0LMNPQ" * 3
TOKENS = [
    *(f"gh{kind}_{MIXED[:36]}" for kind in "pousr"),
    f"github_pat_{MIXED[:22]}_{MIXED[:59]}",
    *(f"gl{kind}-{MIXED[:20]}" for kind in ("pat", "dt", "rt", "cbt", "ptt", "ft", "imt", "agent", "soat")),
    f"GR1348941{MIXED[:20]}",
    *(f"{kind}{UPPER[:16]}" for kind in ("AKIA", "ASIA", "ABIA", "ACCA")),
    *(f"xox{kind}-123456789012-{MIXED[:24]}" for kind in "abeoprs"),
    f"xapp-1-A0123-456-{HEX[:40]}",
    f"https://hooks.slack.com/services/T0123/B0123/{MIXED[:24]}",
    f"https://discord.com/api/webhooks/123456789/{MIXED[:60]}",
    f"dckr_pat_{MIXED[:27]}",
    f"npm_{MIXED[:36]}",
    f"pypi-AgEIcHlwaS5vcmc{MIXED[:60]}",
    f"rubygems_{HEX[:48]}",
    f"sk-{MIXED[:48]}",
    f"sk-ant-api03-{MIXED}-AA",
    f"sk-proj-{MIXED}_{MIXED[:20]}",
    f"sk-svcacct-{MIXED}",
    f"hf_{MIXED[:34]}",
    f"gsk_{MIXED[:52]}",
    f"r8_{MIXED[:37]}",
    f"AIza{MIXED[:35]}",
    f"ya29.{MIXED}",
    f"GOCSPX-{MIXED[:28]}",
    f"1//0{MIXED[:40]}",
    *(f"{kind}_{mode}_{MIXED[:24]}" for kind in ("sk", "rk") for mode in ("live", "test")),
    f"whsec_{MIXED[:32]}",
    *(f"do{kind}_v1_{HEX}" for kind in "opr"),
    f"dapi{HEX[:32]}",
    f"glsa_{MIXED[:32]}_{HEX[:8]}",
    f"SK{HEX[:32]}",
    f"SG.{MIXED[:22]}.{MIXED[:43]}",
    f"key-{HEX[:32]}",
    f"{HEX[:32]}-us12",
    f"123456789:AA{MIXED[:33]}",
    f"https://api.telegram.org/bot123456789:AA{MIXED[:33]}/getMe",
    f"aB38Q~{MIXED[:34]}",
    f"sq0csp-{MIXED[:43]}",
    f"shpat_{HEX[:32]}",
    f"hvs.{MIXED}",
    f"{MIXED[:14]}.atlasv1.{MIXED}",
    f"lin_api_{MIXED[:40]}",
    f"secret_{MIXED[:43]}",
    f"dp.pt.{MIXED[:43]}",
    f"pul-{HEX[:40]}",
    f"PMAK-{HEX[:24]}-{HEX[:34]}",
    f"NRAK-{UPPER[:27]}",
    f"tskey-auth-{MIXED[:12]}-{MIXED[:32]}",
    f"nfp_{MIXED[:36]}",
    f"sbp_{HEX[:40]}",
    f"pscale_tkn_{MIXED[:43]}",
    f"ATATT3{MIXED}",
    f"AKCp{MIXED[:69]}",
    f"sntrys_{MIXED}",
    f"dt0c01.{UPPER[:24]}.{UPPER}",
    f"AGE-SECRET-KEY-1{UPPER[:58]}",
    f"eyJhbGciOiJIUzI1NiJ9.{MIXED[:40]}.{MIXED[:43]}",
]
SECRET = "correcthorse"
WRITTEN = [
    f"mysql -u root -p{SECRET} shop",
    f"mysqldump --single-transaction -p'{SECRET}' shop",
    f"mariadb -h db -p{SECRET}",
    f"MYSQL_PWD={SECRET}",
    f"PGPASSWORD={SECRET} psql",
    f"PGPASSWORD='{SECRET}'",
    f"MYSQL_ROOT_PASSWORD={SECRET}",
    f"REDIS_PASS={SECRET}",
    f"--password {SECRET}",
    f"--password={SECRET}",
    f"curl -u me:{SECRET} https://host/",
    f"curl -u 'me:{SECRET}' https://host/",
    f"curl -ume:{SECRET} https://host/",
    f"curl --user me:{SECRET} https://host/",
    f"curl --proxy-user=me:{SECRET} https://host/",
    f"docker login -u me -p {SECRET} registry.example",
    f"sshpass -p {SECRET} ssh host",
    f"redis-cli -h host -a {SECRET} ping",
    f"redis-server --requirepass {SECRET}",
    f"machine host.example login me password {SECRET}",
    f"machine host.example\n  login me\n  password {SECRET}\n",
    f"default login me password {SECRET}",
    f"db.example:5432:shop:me:{SECRET}",
    f"*:*:*:me:{SECRET}",
    f"https://me:{SECRET}@host/path",
    f"postgres://me:{SECRET}@db:5432/shop",
    f"redis://:{SECRET}@cache:6379/0",
    f"amqp://me:{SECRET}@queue/",
    f"mongodb+srv://me:{SECRET}@cluster/",
    f"git+https://{SECRET}@host/repo.git",
    f"Authorization: Basic {SECRET}==",
    f"Proxy-Authorization: Basic {SECRET}==",
    f"curl -H 'Authorization: Bearer {SECRET}'",
    f"got a Bearer {SECRET * 2} here",
    f"X-Api-Key: {SECRET}",
    f"X-Vault-Token: {SECRET}",
    f"Cookie: session={SECRET}",
    f"DefaultEndpointsProtocol=https;AccountName=me;AccountKey={SECRET}+/==;EndpointSuffix=x",
    f"Server=db;User Id=me;Password={SECRET};",
    f"Server=db;Uid=me;Pwd={SECRET};",
    f"https://me.blob.example/x?sv=2020&sig={SECRET}%3D",
    f"AWS_SECRET_ACCESS_KEY={SECRET}",
    f"aws_session_token = {SECRET}",
    f'"private_key": "{SECRET}"',
    f'{{"auths": {{"registry.example": {{"auth": "{SECRET}"}}}}}}',
    f"//registry.example/:_authToken={SECRET}",
    f"_password = {SECRET}",
    f"client_secret: {SECRET}",
    f"<password>{SECRET}</password>",
    f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----",
    f"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n{SECRET}\n-----END PGP PRIVATE KEY BLOCK-----",
    f"PuTTY-User-Key-File-3: ssh-ed25519\nPrivate-Lines: 1\n{SECRET}\n",
]
READABLE = [
    "docker run -d -p 8080:80 -u 1000:1000 --name web nginx:1.27",
    "docker exec -u 33:33 web ls -la",
    "ssh -p 2222 docker@127.0.59.103",
    "mysql -u root -p shop",
    "mkdir -p /var/lib/mysql",
    "pid 4711, user root:root, 12:34:56 up 3 days",
    "52:54:00:12:34:56 dev eth0, fe80::5054:ff:fe12:3456/64",
    "sha256:" + HEX,
    f"image {HEX[:12]} of {HEX}",
    "123e4567-e89b-12d3-a456-426614174000",
    "PWD=/home/docker OLDPWD=/",
    "task-runner-for-something-that-is-long-2024 and disk-0123456789abcdefghij",
    "b2d: the guest's clock is 3 s behind",
    "login as docker, the password is in the documents",
    "tcp://127.0.59.103:2376, 10.0.2.2:3128, [::1]:5432",
    "linux-image-6.12.43+deb13-amd64 6.12.43-1",
    "key=value; monkey=1; keyboard-layout: de",
    "qemu-system-x86_64 -m 2048 -smp 2 -accel kvm -drive file=disk.qcow2,if=virtio",
    "the bearer of this document",
    "-----BEGIN CERTIFICATE REQUEST----- is how one begins"[28:],
    "localhost:2375 refused; db:5432 reachable",
    "2024-11-29T12:30:11:1234 slow",
]


@pytest.mark.parametrize("token", TOKENS, ids=range(len(TOKENS)))
@pytest.mark.parametrize("around", ["it is {} here", 'level=info msg="got {}"', "x={}", '["{}"]'])
def test_a_token_is_recognised_by_its_form(token: str, around: str) -> None:
    cleaned = Redaction(()).clean(around.format(token))
    assert REDACTED in cleaned
    assert MIXED[:16] not in cleaned and HEX[:16] not in cleaned and UPPER[:16] not in cleaned


@pytest.mark.parametrize("text", WRITTEN, ids=range(len(WRITTEN)))
def test_a_secret_is_recognised_by_its_context(text: str) -> None:
    cleaned = Redaction(()).clean(f"before\n{text}\nafter")
    assert SECRET not in cleaned and REDACTED in cleaned
    assert cleaned.startswith("before\n") and cleaned.endswith("after")


@pytest.mark.parametrize("text", READABLE, ids=range(len(READABLE)))
def test_text_without_secrets_stays_readable(text: str) -> None:
    assert Redaction(()).clean(text) == text


@pytest.mark.parametrize(
    "noise",
    [
        "mysql ",
        "login ",
        "-u ",
        "a:5432:",
        "sk-",
        "bearer ",
        "machine a ",
        "Private-Lines: 1\n",
        "a:*:",
        "hf_",
        "<pass",
    ],
)
def test_noise_is_redacted_quickly(noise: str) -> None:
    with cpu_limit(5):
        Redaction(()).clean(noise * (60_000 // len(noise)))
