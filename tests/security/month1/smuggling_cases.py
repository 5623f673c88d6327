"""One table of requests that two servers could read in different ways, for both doors.

`REFUSED` holds variants by name; `NUMBERED` sorts them into the twenty cases that a gateway is
held to. test_request_smuggling.py sends them straight to the gateway, test_smuggling_at_the_edge.py
through nginx in front of it.
"""

from __future__ import annotations

BEFORE = b"GET /before HTTP/1.1\r\nHost: localhost\r\n\r\n"
AFTER = b"GET /after HTTP/1.1\r\nHost: localhost\r\n\r\n"
INSIDE = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: localhost\r\n"
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n"

REFUSED = {
    # Two lengths.
    "cl-te": CHUNKED + b"Content-Length: 6\r\n\r\n0\r\n\r\n" + INSIDE,
    "te-cl": POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + INSIDE,
    "two-cl": POST + b"Content-Length: 0\r\nContent-Length: 43\r\n\r\n" + INSIDE,
    "two-equal-cl": POST + b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n" + INSIDE,
    "cl-list": POST + b"Content-Length: 0, 43\r\n\r\n" + INSIDE,
    "cl-plus": POST + b"Content-Length: +43\r\n\r\n" + INSIDE,
    "cl-minus": POST + b"Content-Length: -1\r\n\r\n" + INSIDE,
    "cl-hex": POST + b"Content-Length: 0x2b\r\n\r\n" + INSIDE,
    "cl-space-inside": POST + b"Content-Length: 4 3\r\n\r\n" + INSIDE,
    "cl-empty": POST + b"Content-Length:\r\n\r\n" + INSIDE,
    "cl-underscore": POST + b"Content_Length: 43\r\n\r\n" + INSIDE,
    "cl-overflow": POST + b"Content-Length: 18446744073709551617\r\n\r\n" + INSIDE,
    # Transfer codings in disguise.
    "te-te": CHUNKED + b"Transfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "te-identity": POST + b"Transfer-Encoding: identity\r\n\r\n" + INSIDE,
    "te-list": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "te-prefix": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "te-quoted": POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "te-vertical-tab": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "te-underscore": POST + b"Transfer_Encoding: chunked\r\n\r\n0\r\n\r\n",
    "te-space-before-colon": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "te-http-1.0": CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n0\r\n\r\n",
    # Line ends and white space.
    "bare-lf": b"GET / HTTP/1.1\nHost: localhost\n\n" + INSIDE,
    "bare-lf-in-a-header": GET + b"X: a\nTransfer-Encoding: chunked\r\n\r\n",
    "bare-cr-in-a-header": GET + b"X: a\rTransfer-Encoding: chunked\r\n\r\n",
    "nul-in-a-header": GET + b"X: a\x00b\r\n\r\n",
    "obs-fold": GET + b"X: a\r\n Transfer-Encoding: chunked\r\n\r\n",
    "space-before-the-first-header": b"GET / HTTP/1.1\r\n Host: localhost\r\n\r\n",
    "header-without-colon": GET + b"Transfer-Encoding\r\n\r\n",
    "header-without-name": GET + b": x\r\n\r\n",
    # Chunks.
    "chunk-size-not-hex": CHUNKED + b"\r\nzz\r\nabc\r\n0\r\n\r\n",
    "chunk-size-signed": CHUNKED + b"\r\n+3\r\nabc\r\n0\r\n\r\n",
    "chunk-size-0x": CHUNKED + b"\r\n0x3\r\nabc\r\n0\r\n\r\n",
    "chunk-size-overflow": CHUNKED + b"\r\n10000000000000003\r\nabc\r\n0\r\n\r\n",
    "chunk-size-empty": CHUNKED + b"\r\n\r\nabc\r\n0\r\n\r\n",
    "chunk-longer-than-it-says": CHUNKED + b"\r\n3\r\nabcdef\r\n0\r\n\r\n",
    "chunk-without-its-line-end": CHUNKED + b"\r\n3\r\nabcXX0\r\n\r\n",
    "chunk-line-ends-in-lf": CHUNKED + b"\r\n3\nabc\r\n0\r\n\r\n",
    "chunk-extension-with-lf": CHUNKED + b"\r\n3;a\nb\r\nabc\r\n0\r\n\r\n",
    "chunk-data-ends-in-lf": CHUNKED + b"\r\n3\r\nabc\n0\r\n\r\n",
    "chunk-trailer": CHUNKED + b"\r\n0\r\nAuthorization: Bearer evil\r\n\r\n",
    # Request lines and hosts.
    "absolute-form": b"GET http://localhost/x HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "authority-form": b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "asterisk-form": b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "two-spaces": b"GET  / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "tab": b"GET\t/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "http-0.9": b"GET /\r\n\r\n",
    "http-1.2": b"GET / HTTP/1.2\r\nHost: localhost\r\n\r\n",
    "http-2-preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "rtsp": b"GET / RTSP/1.0\r\nHost: localhost\r\n\r\n",
    "no-host": b"GET / HTTP/1.1\r\n\r\n",
    "two-hosts": GET + b"Host: internal\r\n\r\n",
    "host-with-path": b"GET / HTTP/1.1\r\nHost: localhost/x\r\n\r\n",
    "host-with-user": b"GET / HTTP/1.1\r\nHost: a@localhost\r\n\r\n",
    "h2c-upgrade": GET + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n",
    "two-authorizations": GET + b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n",
}
KEEPS_THE_CONNECTION = {"absolute-form", "asterisk-form"}

NUMBERED = {
    1: ("content length and transfer coding", ("cl-te", "te-cl")),
    2: ("two transfer codings", ("te-te", "te-list")),
    3: ("a transfer coding that is not chunked", ("te-identity", "te-prefix", "te-quoted")),
    4: ("a transfer coding behind odd bytes", ("te-vertical-tab", "te-http-1.0")),
    5: ("two content lengths", ("two-cl", "two-equal-cl", "cl-list")),
    6: ("a content length with a sign", ("cl-plus", "cl-minus")),
    7: ("a content length with a space", ("cl-space-inside", "cl-empty")),
    8: ("a content length beyond numbers", ("cl-hex", "cl-overflow")),
    9: ("an underscore for a dash", ("cl-underscore", "te-underscore")),
    10: ("a space before the colon", ("te-space-before-colon", "space-before-the-first-header")),
    11: ("a bare line feed", ("bare-lf", "bare-lf-in-a-header")),
    12: ("a bare carriage return, a NUL", ("bare-cr-in-a-header", "nul-in-a-header")),
    13: ("a folded header", ("obs-fold",)),
    14: ("a header without name or colon", ("header-without-colon", "header-without-name")),
    15: (
        "a chunk size that is no number",
        (
            "chunk-size-not-hex",
            "chunk-size-signed",
            "chunk-size-0x",
            "chunk-size-empty",
            "chunk-size-overflow",
        ),
    ),
    16: (
        "a chunk that is not as long as it says",
        (
            "chunk-longer-than-it-says",
            "chunk-without-its-line-end",
            "chunk-line-ends-in-lf",
            "chunk-extension-with-lf",
            "chunk-data-ends-in-lf",
        ),
    ),
    17: ("a trailer", ("chunk-trailer",)),
    18: (
        "another form of the request line",
        (
            "absolute-form",
            "authority-form",
            "asterisk-form",
            "two-spaces",
            "tab",
            "http-0.9",
            "http-1.2",
            "http-2-preface",
            "rtsp",
        ),
    ),
    19: (
        "a host that is missing, double or odd",
        ("no-host", "two-hosts", "host-with-path", "host-with-user", "two-authorizations"),
    ),
    20: ("an upgrade to HTTP/2", ("h2c-upgrade",)),
}

HARMLESS = {
    "body-that-looks-like-a-request": POST + b"Content-Length: 43\r\n\r\n" + INSIDE[:43],
    "chunk-extension": CHUNKED + b"\r\n3;name=value\r\nabc\r\n0\r\n\r\n",
    "zero-padded-chunk-size": CHUNKED + b"\r\n003\r\nabc\r\n000\r\n\r\n",
    "chunked-in-capitals": POST + b"Transfer-Encoding: CHUNKED\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "chunk-that-looks-like-a-request": CHUNKED
    + b"\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(INSIDE), INSIDE),
    "tabs-around-a-value": GET + b"X-Tab: \t a \t\r\n\r\n",
    "empty-line-before": b"\r\n" + GET + b"\r\n",
    "get-with-body": GET + b"Content-Length: 3\r\n\r\nabc",
}
