"""Amazon SNS's signatures and Google's tokens by each fault, with keys by hand and fetched."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from integrations._keys import KeyRing
from integrations._source import Door, Sender
from integrations._webhook import Guard, check_auth
from integrations.aws_guardduty import SENDER as GUARDDUTY
from integrations.aws_sns import SENDER as SNS
from integrations.google_scc import SENDER as SCC
from responder.clock import SECOND, World
from responder.errors import ConfigError, StepFailed, StoreUnavailable, Unauthorized
from responder.model import AlertKind, Secret
from responder.ports import HookInfo
from tests.adapters.senders.parts import changed, sample
from tests.adapters.sources.parts import NOW, WORLD, StillClock

TOPIC = "arn:aws:sns:eu-west-1:123456789012:alarms"
OTHER = "arn:aws:sns:eu-west-1:123456789012:others"
HOST = "sns.eu-west-1.amazonaws.com"
URL = f"https://{HOST}/SimpleNotificationService-{'0' * 32}.pem"
MOMENT = dt.datetime.fromtimestamp(NOW / SECOND, dt.UTC)
KEY, OLD_KEY, WRONG_KEY = (rsa.generate_private_key(65537, 2048) for _ in range(3))
Headers = dict[str, str]


def pem(key: rsa.RSAPrivateKey, *, days: int = 30, ago: int = 30) -> str:
    """A certificate of a key, valid around the tests' own now."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(MOMENT - dt.timedelta(days=ago))
        .not_valid_after(MOMENT + dt.timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


BY_HAND = {"sns": {"topics": [TOPIC], "certificates": [Secret(pem(KEY)), Secret(pem(OLD_KEY))]}}
FETCHED = {"sns": {"topics": [TOPIC], "hosts": [HOST]}}


def message(**fields: Any) -> dict[str, Any]:
    """A notification as SNS makes it, not yet signed."""
    made = {
        **sample("aws-sns"),
        "TopicArn": TOPIC,
        "Timestamp": MOMENT.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "SigningCertURL": URL,
        **fields,
    }
    return {key: value for key, value in made.items() if value is not ...}


CONFIRMATION = message(
    Type="SubscriptionConfirmation",
    Token="51b2ff3e",
    SubscribeURL=f"https://{HOST}/?Action=ConfirmSubscription&Token=51b2ff3e",
)


def signed(fields: Mapping[str, Any], key: rsa.RSAPrivateKey = KEY, version: str = "2") -> bytes:
    """The body of a message, signed as the manual says."""
    names = ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"]
    if fields["Type"] != "Notification":
        names = ["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
    text = "".join(f"{name}\n{fields[name]}\n" for name in names if name in fields)
    algorithm = hashes.SHA1() if version == "1" else hashes.SHA256()
    signature = key.sign(text.encode(), padding.PKCS1v15(), algorithm)
    return json.dumps(
        {
            **fields,
            "SignatureVersion": version,
            "Signature": base64.b64encode(signature).decode(),
        }
    ).encode()


SENT = {"x-amz-sns-topic-arn": TOPIC, "x-amz-sns-message-type": "Notification"}


def ask(
    body: bytes,
    headers: Headers = SENT,
    auth: Mapping[str, Any] = BY_HAND,
    sender: Sender = SNS,
    ring: KeyRing | None = None,
) -> None:
    """Both moments of a source's check."""
    hook = HookInfo(name="h", source=sender.name, auth=auth)
    door = Door(sender, Guard(WORLD, ring))
    door.preverify(headers, hook)
    door.verify(headers, body, hook)


def refused(*given: Any, **named: Any) -> str:
    """What the refusal says."""
    with pytest.raises(Unauthorized) as caught:
        ask(*given, **named)
    return str(caught.value)


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("key", [KEY, OLD_KEY], ids=["new", "old"])
@pytest.mark.parametrize("sender", [SNS, GUARDDUTY], ids=["sns", "guardduty"])
def test_a_signed_message_is_believed(version: str, key: rsa.RSAPrivateKey, sender: Sender) -> None:
    """Both versions, with two certificates at once, with and without a subject."""
    ask(signed(message(), key, version), sender=sender)
    ask(signed(message(Subject=...), key, version), sender=sender)
    ask(signed(CONFIRMATION, key, version), sender=sender)


@pytest.mark.parametrize("field", ["Message", "MessageId", "Subject", "Timestamp", "Type"])
def test_a_signed_field_changed(field: str) -> None:
    """Each field that the signature covers, changed or taken away."""
    body = json.loads(signed(message()))
    for value in (body[field] + " ", "", None, 7, ["x"], ...):
        refused(json.dumps(changed(body, {field: value})).encode())


@pytest.mark.parametrize(
    "changes",
    [
        {"Signature": "RVhBTVBMRQ=="},
        {"Signature": "not base64"},
        {"Signature": None},
        {"SignatureVersion": "3"},
        {"SignatureVersion": 2},
        {"SignatureVersion": ...},
    ],
    ids=str,
)
def test_a_signature_that_is_none(changes: dict[str, Any]) -> None:
    """Another version, another form, nothing at all."""
    refused(json.dumps(changed(json.loads(signed(message())), changes)).encode())


def test_a_wrong_key_and_no_json() -> None:
    """A key that no certificate of the hook has; a body that is no envelope."""
    refused(signed(message(), WRONG_KEY))
    for body in (b"", b"{", b"[]", b"null", signed(message()) * 2):
        refused(body)


def test_another_topic() -> None:
    """In the header, where it is refused unread; in the body; in both; and none at all."""
    right = signed(message())
    foreign = signed(message(TopicArn=OTHER))

    assert "no topic" in refused(right, {"x-amz-sns-topic-arn": OTHER})
    assert "no message of a topic" in refused(foreign)
    refused(foreign, {"x-amz-sns-topic-arn": OTHER})
    refused(right, {"x-amz-sns-topic-arn": f"{TOPIC}, {TOPIC}"})
    assert "missing" in refused(right, {})


@pytest.mark.parametrize("off", [-86_400, -301, 301, 86_400])
def test_a_message_of_another_time(off: int) -> None:
    """A good signature is refused when it is older than SNS tries, or of the future."""
    moment = MOMENT + dt.timedelta(seconds=off)
    refused(signed(message(Timestamp=moment.isoformat(timespec="milliseconds"))))


@pytest.mark.parametrize(("days", "ago"), [(-1, 30), (30, -1)])
def test_a_certificate_of_another_time(days: int, ago: int) -> None:
    """Expired, and not yet valid."""
    auth = {"sns": {"topics": [TOPIC], "certificates": Secret(pem(KEY, days=days, ago=ago))}}
    refused(signed(message()), auth=auth)


class Web:
    """The places where keys stand, and who asked for what."""

    def __init__(self, pages: Mapping[str, str]) -> None:
        self.pages = dict(pages)
        self.asked: list[str] = []

    async def __call__(self, url: str) -> bytes:
        self.asked.append(url)
        if url not in self.pages:
            raise StepFailed("HTTP 404")
        return self.pages[url].encode()


async def prepared(
    web: Web, body: bytes, headers: Headers = SENT, auth: Mapping[str, Any] = FETCHED
) -> KeyRing:
    """The ring after the source has fetched what it may."""
    ring = KeyRing(WORLD, web)
    hook = HookInfo(name="h", source="aws-sns", auth=auth)
    await Door(SNS, Guard(WORLD, ring)).prepare(headers, body, hook)
    return ring


async def test_the_certificate_is_fetched_from_an_allowed_host() -> None:
    """Once; the check itself asks nobody, and refuses while nothing was fetched."""
    web = Web({URL: pem(KEY)})
    body = signed(message())
    refused(body, auth=FETCHED)
    refused(body, auth=FETCHED, ring=KeyRing(WORLD, web))
    assert web.asked == []

    ring = await prepared(web, body)
    ask(body, auth=FETCHED, ring=ring)
    await ring.refresh(URL)
    refused(signed(message(), WRONG_KEY), auth=FETCHED, ring=ring)
    assert web.asked == [URL]


@pytest.mark.parametrize(
    "url",
    [
        URL.replace("https", "http"),
        URL.replace(HOST, "sns.us-east-1.amazonaws.com"),
        URL.replace(HOST, f"{HOST}.evil.example"),
        URL.replace(HOST, f"evil.example/{HOST}"),
        URL.replace(HOST, f"user@{HOST}"),
        URL.replace(HOST, f"{HOST}:8443"),
        URL.replace(HOST, HOST.upper()),
        URL.replace("Simple", "../Simple"),
        URL + "?x=1",
        URL + "#x",
        URL + "\n",
        f"https://{HOST}/",
        "",
        None,
        7,
    ],
)
async def test_no_certificate_is_fetched_from_elsewhere(url: Any) -> None:
    """Whatever a message names: an address that is not on the list is never opened."""
    web = Web({str(url): pem(KEY), URL: pem(KEY)})
    body = signed(message(SigningCertURL=url))
    with pytest.raises(Unauthorized):
        await prepared(web, body)
    assert web.asked == []


async def test_nothing_is_fetched_for_another_topic_or_a_hook_with_keys() -> None:
    """A stranger who knows no topic makes the server fetch nothing."""
    web = Web({URL: pem(KEY)})
    with pytest.raises(Unauthorized):
        await prepared(web, signed(message()), {"x-amz-sns-topic-arn": OTHER})
    with pytest.raises(Unauthorized):
        await prepared(web, signed(message(TopicArn=OTHER)))
    await prepared(web, signed(message()), auth=BY_HAND)
    await prepared(web, b"{}", {}, auth={"bearer": Secret("x")})

    assert web.asked == []


async def test_keys_that_cannot_be_fetched_make_the_sender_come_back() -> None:
    """503 and not 401; the place is not asked again at once."""
    web = Web({})
    ring = KeyRing(WORLD, web)
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await ring.refresh(URL)
    assert web.asked == [URL]


class Later(StillClock):
    """A clock whose time a test sets."""

    seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


async def test_old_keys_serve_while_their_place_cannot_be_reached() -> None:
    """They are asked for anew after an hour, and once more after a failure's pause."""
    clock = Later()
    web = Web({URL: "first"})
    ring = KeyRing(World(clock=clock), web)
    await ring.refresh(URL)
    web.pages = {}
    for clock.seconds in (3500.0, 3601.0, 3602.0):
        await ring.refresh(URL)
        assert ring.held(URL) == b"first"
    assert len(web.asked) == 2
    web.pages = {URL: "second"}
    clock.seconds = 3640.0
    await ring.refresh(URL)
    assert (ring.held(URL), len(web.asked)) == (b"second", 3)


async def test_the_ring_stays_small() -> None:
    """Addresses that a stranger makes up push out no more than they are."""
    pages = {f"https://{HOST}/{number}": "x" for number in range(40)}
    ring = KeyRing(WORLD, Web(pages))
    for url in pages:
        await ring.refresh(url)
    assert sum(bool(ring.held(url)) for url in pages) == 16


def test_a_confirmation_is_shown_and_its_token_is_not_kept() -> None:
    """It is told apart from one of a foreign topic; neither token nor address is kept of either."""
    hook = HookInfo(name="h", source="aws-sns", auth=BY_HAND)
    [alert] = Door(SNS, Guard(WORLD)).parse(SENT, signed(CONFIRMATION), hook)
    foreign = signed({**CONFIRMATION, "TopicArn": OTHER})
    [other] = Door(SNS, Guard(WORLD)).parse(SENT, foreign, hook)

    assert (alert.kind, other.kind) == (AlertKind.HEALTH, AlertKind.HEALTH)
    assert alert.fields["host"] == HOST
    assert "host" not in other.fields
    for one in (alert, other):
        assert "51b2ff3e" not in json.dumps(one.to_json()) + one.raw


CONFIRM = f"https://{HOST}/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=51b2ff3e"


async def confirming(body: bytes, *, confirm: Any = True, fails: bool = False) -> list[str]:
    """What a hook opens after it has stored a message, beside the certificate."""
    web = Web({URL: pem(KEY)} if fails else {URL: pem(KEY), CONFIRM: "<ok/>"})
    ring = KeyRing(WORLD, web)
    options = {"confirm": confirm}
    hook = HookInfo(name="h", source="aws-sns", auth=FETCHED, options=options)
    door = Door(SNS, Guard(WORLD, ring))
    await door.prepare(SENT, body, hook)
    await door.follow(SENT, body, hook)
    return [url for url in web.asked if url != URL]


async def test_a_subscription_is_confirmed_where_the_hook_allows_it() -> None:
    """Only then, and only at SNS's own host for a listed topic."""
    right = signed({**CONFIRMATION, "SubscribeURL": CONFIRM})

    assert await confirming(right) == [CONFIRM]
    for no in (False, None, "yes", 1):
        assert await confirming(right, confirm=no) == []
    assert await confirming(signed(message())) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"Type": "UnsubscribeConfirmation"},
        {"SubscribeURL": CONFIRM.replace("https", "http")},
        {"SubscribeURL": CONFIRM.replace(HOST, "evil.example")},
        {"SubscribeURL": CONFIRM.replace(HOST, "169.254.169.254")},
        {"SubscribeURL": CONFIRM.replace(HOST, f"{HOST}@evil.example")},
        {"SubscribeURL": CONFIRM.replace(HOST, f"user@{HOST}")},
        {"SubscribeURL": CONFIRM.replace(HOST, f"{HOST}:8443")},
        {"SubscribeURL": CONFIRM.replace(HOST, "sns.us-east-1.amazonaws.com")},
        {"SubscribeURL": CONFIRM.replace("Confirm", "Delete")},
        {"SubscribeURL": CONFIRM.replace(TOPIC, OTHER)},
        {"SubscribeURL": f"{CONFIRM}&TopicArn={OTHER}"},
        {"SubscribeURL": ""},
    ],
    ids=str,
)
async def test_no_other_address_is_opened(changes: dict[str, Any]) -> None:
    """Even a message that SNS itself has signed sends the server nowhere else."""
    body = signed({**CONFIRMATION, "SubscribeURL": CONFIRM, **changes})

    assert await confirming(body) == []


async def test_an_unsigned_confirmation_opens_nothing() -> None:
    """The check is made once more before anything is opened."""
    with pytest.raises(Unauthorized):
        await confirming(signed({**CONFIRMATION, "SubscribeURL": CONFIRM}, WRONG_KEY))


async def test_a_confirmation_that_fails_is_asked_for_again() -> None:
    """503 makes SNS send the request once more."""
    with pytest.raises(StoreUnavailable):
        await confirming(signed({**CONFIRMATION, "SubscribeURL": CONFIRM}), fails=True)


# --------------------------------------------------------------------------- OIDC

ISSUER = "https://accounts.google.com"
AUDIENCE = "https://responder.example/v1/hooks/scc"
EMAIL = "push@shop.iam.gserviceaccount.com"
CERTS = "https://www.googleapis.com/oauth2/v3/certs"
SECONDS = NOW // SECOND
CLAIMS: dict[str, Any] = {
    "iss": ISSUER,
    "aud": AUDIENCE,
    "email": EMAIL,
    "email_verified": True,
    "sub": "1",
    "iat": SECONDS - 5,
    "exp": SECONDS + 3600,
}


def key_set(**keys: rsa.RSAPrivateKey) -> str:
    """A JSON Web Key Set of these keys, by their ids."""
    made = [
        {
            **json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key())),
            "kid": kid,
            "alg": "RS256",
            "use": "sig",
        }
        for kid, key in keys.items()
    ]
    return json.dumps({"keys": made})


NAMED = {"issuer": ISSUER, "audience": AUDIENCE, "email": EMAIL}
OIDC = {"oidc": {**NAMED, "keys": Secret(key_set(new=KEY, old=OLD_KEY))}}
OIDC_FETCHED = {"oidc": {**NAMED, "keys_url": CERTS}}
PUSH = json.dumps(
    {"message": {"data": base64.b64encode(json.dumps(sample("google-scc")).encode()).decode()}}
).encode()


def token(key: Any = KEY, kid: str = "new", algorithm: str = "RS256", **claims: Any) -> Headers:
    """The header of a push; `...` takes a claim away."""
    said = {name: value for name, value in {**CLAIMS, **claims}.items() if value is not ...}
    made = jwt.encode(said, key, algorithm=algorithm, headers={"kid": kid})
    return {"authorization": f"Bearer {made}"}


def push(headers: Headers, auth: Mapping[str, Any] = OIDC, ring: KeyRing | None = None) -> None:
    """Both moments of the check of a push."""
    ask(PUSH, headers, auth, SCC, ring)


def test_a_right_token_is_believed() -> None:
    """With the new key and with the old one; what it carries is opened."""
    push(token())
    push(token(OLD_KEY, "old"))
    hook = HookInfo(name="h", source="google-scc", auth=OIDC)
    [alert] = Door(SCC, Guard(WORLD)).parse(token(), PUSH, hook)
    assert alert.kind is AlertKind.DETECTION


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "https://responder.example/v1/hooks/other"},
        {"aud": ...},
        {"aud": ""},
        {"iss": "https://accounts.google.com.evil.example"},
        {"iss": ...},
        {"email": "other@shop.iam.gserviceaccount.com"},
        {"email": ...},
        {"email": [EMAIL]},
        {"email_verified": False},
        {"email_verified": "true"},
        {"email_verified": ...},
        {"exp": SECONDS - 61},
        {"exp": ...},
        {"exp": "never"},
        {"iat": SECONDS + 61},
        {"iat": ...},
        {"nbf": SECONDS + 61},
    ],
    ids=str,
)
def test_a_token_with_a_wrong_claim(claims: dict[str, Any]) -> None:
    """Other audience, issuer, e-mail; expired; of the future; a claim missing."""
    with pytest.raises(Unauthorized) as caught:
        push(token(**claims))
    assert EMAIL not in str(caught.value)


def test_a_token_of_another_key_or_algorithm() -> None:
    """A wrong key under a right id, an unknown id, none, and a public key used as a secret."""
    public = KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    header, claims, _ = token()["authorization"].removeprefix("Bearer ").split(".")
    plain = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"new","typ":"JWT"}').rstrip(b"=")
    mac = hmac.new(public, plain + b"." + claims.encode(), hashlib.sha256).digest()
    confused = b".".join([plain, claims.encode(), base64.urlsafe_b64encode(mac).rstrip(b"=")])
    nothing = base64.urlsafe_b64encode(b'{"alg":"none","kid":"new"}').rstrip(b"=").decode()
    for headers in (
        token(WRONG_KEY),
        token(kid="unknown"),
        token(OLD_KEY, "new"),
        token(None, algorithm="none"),
        {"authorization": f"Bearer {confused.decode()}"},
        {"authorization": f"Bearer {nothing}.{claims}."},
        {"authorization": f"Bearer {header}.{claims}."},
        {"authorization": f"Bearer {header}.{claims}"},
        {"authorization": "Bearer x"},
        {"authorization": "Bearer "},
        {"authorization": "Bearer " + "A" * 9000},
        {"authorization": token()["authorization"].replace("Bearer", "Basic")},
        {"authorization": ", ".join([token()["authorization"]] * 2)},
        {},
    ):
        with pytest.raises(Unauthorized):
            push(headers)


def test_another_hooks_token() -> None:
    """What opens one hook opens no other."""
    other = {"oidc": {**OIDC["oidc"], "audience": "https://responder.example/v1/hooks/two"}}
    with pytest.raises(Unauthorized):
        push(token(), other)


async def test_googles_keys_are_fetched_from_the_configured_address() -> None:
    """The token never names where its key stands; without keys nobody is believed."""
    web = Web({CERTS: key_set(new=KEY)})
    ring = KeyRing(WORLD, web)
    with pytest.raises(Unauthorized):
        push(token(), OIDC_FETCHED, ring)
    hook = HookInfo(name="h", source="google-scc", auth=OIDC_FETCHED)
    await Door(SCC, Guard(WORLD, ring)).prepare(token(), PUSH, hook)
    push(token(), OIDC_FETCHED, ring)
    with pytest.raises(Unauthorized):
        push(token(WRONG_KEY), OIDC_FETCHED, ring)
    assert web.asked == [CERTS]


# --------------------------------------------------------------------------- configuration


@pytest.mark.parametrize("auth", [BY_HAND, FETCHED, OIDC, OIDC_FETCHED])
def test_the_configuration_takes_it(auth: dict[str, Any]) -> None:
    """Every scheme here can be written down."""
    check_auth(auth, "hooks.h.auth", "aws-sns")


@pytest.mark.parametrize(
    "auth",
    [
        {"sns": True},
        {"sns": {}},
        {"sns": {"topics": [TOPIC]}},
        {"sns": {"topics": [], "hosts": [HOST]}},
        {"sns": {"topics": ["alarms"], "hosts": [HOST]}},
        {"sns": {"topics": [TOPIC], "hosts": ["evil.example"]}},
        {"sns": {"topics": [TOPIC], "hosts": ["*.amazonaws.com"]}},
        {"sns": {"topics": [TOPIC], "hosts": [f"{HOST}.evil.example"]}},
        {"sns": {"topics": [TOPIC], "certificates": Secret("no PEM")}},
        {"sns": {"topics": [TOPIC], "certificates": []}},
        {"sns": {"topics": [TOPIC], "hosts": [HOST], "window": 0}},
        {"sns": {"topics": [TOPIC], "hosts": [HOST], "odd": 1}},
        {"oidc": True},
        {"oidc": {**NAMED}},
        {"oidc": {**NAMED, "keys_url": "http://www.googleapis.com/oauth2/v3/certs"}},
        {"oidc": {**NAMED, "keys": Secret("no JSON")}},
        {"oidc": {**NAMED, "email": "", "keys_url": CERTS}},
        {"oidc": {**NAMED, "keys_url": CERTS, "odd": 1}},
    ],
    ids=str,
)
def test_half_a_configuration_is_refused(auth: dict[str, Any]) -> None:
    """Before the server starts, with the place of the mistake."""
    with pytest.raises(ConfigError, match=r"hooks\.h\.auth"):
        check_auth(auth, "hooks.h.auth", "aws-sns")


@pytest.mark.parametrize("auth", [{"sns": {}}, {"sns": None}, {"oidc": {}}, {"oidc": None}])
def test_settings_that_are_not_whole_let_nobody_in(auth: dict[str, Any]) -> None:
    """Even when nobody checked them."""
    refused(signed(message()), {**SENT, **token()}, auth)
