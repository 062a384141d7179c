"""What may be shown of names of files elsewhere: no secret, and everything else."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from geo.remote_names import redact

CASES = [
    ("https://me:pw@h/a.tif: no", "https://***@h/a.tif: no"),
    ("https://me:p@ss@h/a.tif", "https://***@h/a.tif"),
    ("s3://KEY:SEC/R+ET@bucket/x.tif", "s3://***@bucket/x.tif"),
    ("https://me:p?w@h/x?mail=a@b&sig=S", "https://***@"),
    ("https://token@h/a.tif", "https://***@h/a.tif"),
    ("https://h:8080/@types/a@b.tif", "https://h:8080/@types/a@b.tif"),
    ("http://[::1]:80/a@b.tif", "http://[::1]:80/a@b.tif"),
    ("HTTPS://h/a.tif?sig=S", "HTTPS://h/a.tif?sig=***"),
    ("HTTPS://h/a.tif?S", "HTTPS://h/a.tif?***"),
    ("gcs://b/k?sig=S, again", "gcs://b/k?sig=***, again"),
    ("https://h/my town.tif?sig=S&t=1 failed", "https://h/my town.tif?sig=***&t=*** failed"),
    ("https://h/my town.tif?S failed", "https://h/my town.tif?*** failed"),
    ("https://h/it's.tif?sig=S", "https://h/it's.tif?sig=***"),
    ("'https://h/a.tif?sig=S': HTTP 503", "'https://h/a.tif?sig=***': HTTP 503"),
    ("https://h/a?sig=a'b", "https://h/a?sig=***"),
    ('{"p": "s3://b/k?t=1", "n": 1}', '{"p": "s3://b/k?t=***", "n": 1}'),
    ("exceeded with url: /stac?key=S (Caused by", "exceeded with url: /stac?key=*** (Caused by"),
    ("exceeded with url: /stac?S (Caused by", "exceeded with url: /stac?*** (Caused by"),
    ("/vsicurl?header.X=S&url=https%3A", "/vsicurl?header.X=***&url=***"),
    (
        "/vsicurl?header.Authorization=Bearer S&url=u",
        "/vsicurl?header.Authorization=***&url=***",
    ),
    ("{'Authorization': 'Bearer S'}", "{'Authorization': '***'}"),
    ("stac?S&key=T", "stac?***&key=***"),
    # What is no secret.
    ("Why? a=b", "Why? a=b"),
    ("why? because", "why? because"),
    ("is https://h/a.tif there? Check it", "is https://h/a.tif there? Check it"),
    ("(or was it https://h/a?)", "(or was it https://h/a?)"),
    ("no file matches /data/tile_?.tif", "no file matches /data/tile_?.tif"),
    ("nothing matches s3://b/tile_??.tif", "nothing matches s3://b/tile_??.tif"),
    ("https://h/{z}/{x}/{y}.png, mail me@h", "https://h/{z}/{x}/{y}.png, mail me@h"),
    ("authorization: refused by the server", "authorization: refused by the server"),
    ("a = b @ c", "a = b @ c"),
]


@pytest.mark.parametrize(("text", "shown"), CASES)
def test_what_is_shown(text, shown):
    assert redact(text) == shown
    assert redact(shown) == shown


PLACES = [
    "cannot read {scheme}://me:{secret}@h/a.tif: HTTP 403",
    "{scheme}://{secret}@h/a.tif?x=1",
    "{scheme}://me:{secret}@h/my a.tif?mail=a@b.org&x={secret}",
    "{scheme}://h/a.tif?X-Sig={secret}&y=1 (again)",
    "'{scheme}://h:80/my town's.tif?sig={secret}', 3",
    "{scheme}://h/my town's.tif?{secret}",
    '{{"path": "{scheme}://h/a.tif?a=b&sig={secret}"}}',
    "Max retries exceeded with url: /stac?subscription-key={secret} (Caused by",
    "Max retries exceeded with url: /stac?{secret} (Caused by",
    "/vsicurl?header.Authorization=Bearer%20{secret}&url={scheme}%3A%2F%2Fh",
    "/vsicurl?header.Authorization=Bearer {secret}&url={scheme}://h/a",
    "/vsicurl/{scheme}://h/a.tif?sig={secret}: no",
    "Why? a=b {scheme}://h/a?k={secret}. What? Nothing",
]
SCHEMES = st.sampled_from(["http", "https", "HTTPS", "Http", "s3", "gs", "gcs", "az", "abfss"])
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
SECRETS = st.builds(
    "".join,
    st.tuples(
        st.text(_LETTERS, min_size=3, max_size=3),
        st.text(_LETTERS + "0123456789+/=%-_.~@':!*$,;()", max_size=24),
        st.text(_LETTERS, min_size=3, max_size=3),
    ),
)


@given(place=st.sampled_from(PLACES), scheme=SCHEMES, secret=SECRETS)
@example(place=PLACES[0], scheme="s3", secret="QqZ/k+j@/QqZ")
def test_no_secret_is_shown_wherever_it_stands(place, scheme, secret):
    if place == PLACES[1] and (set("/?#") & set(secret)):
        # A name without a password ends at the first slash: that is a path.
        return
    shown = redact(place.format(scheme=scheme, secret=secret))
    assert secret not in shown
    assert secret[:3] not in shown or secret[:3] in place + scheme, shown
    assert secret[-3:] not in shown or secret[-3:] in place + scheme, shown


@given(st.text("abc xyz.,;:!?/@=&'\"()\n", max_size=60))
def test_text_without_urls_stays(text):
    """Only a question mark that stands before a value at once, such as x?a=b, is taken as one."""
    text = text.replace("://", ": //").replace("?", "? ")
    assert redact(text) == text
