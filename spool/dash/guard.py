"""Who may see the pages and who may change something: token, host, origin, and what a browser is told."""

from __future__ import annotations

import hmac
import secrets
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self';"
    " connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
COOKIE = "spool-dash"
STRANGER = "This page needs the address that `spool dash` has printed, with its token.\n"


class Guard:
    """Lets through who knows the token (None: whoever reaches the socket) and asks for a known host."""

    def __init__(self, app: ASGIApp, *, token: str | None, hosts: Collection[str], port: int) -> None:
        self.app = app
        self.token = token
        self.hosts = frozenset(hosts)
        self.cookie = f"{COOKIE}-{port}"
        # Browsers send it to all ports of a host: it is not the token, and good for this process alone.
        self.session = secrets.token_urlsafe(24)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                known = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *(
                        (k.encode(), v.encode())
                        for k, v in HEADERS.items()
                        if k.lower().encode() not in known
                    ),
                ]
            await send(message)

        request = Request(scope)
        refusal = self._refusal(request)
        await (refusal or self.app)(scope, receive, dressed)

    def _refusal(self, request: Request) -> PlainTextResponse | RedirectResponse | None:
        host = request.headers.get("host", "")
        if _hostname(host) not in self.hosts:  # a foreign name that was made to point here
            return PlainTextResponse("There is no such host here.\n", status_code=421)
        origin = request.headers.get("origin")
        if request.method not in ("GET", "HEAD") and origin and _netloc(origin) != host:
            return PlainTextResponse("A form of another site.\n", status_code=403)
        if self.token is None:
            return None
        given = request.query_params.get("token")
        if given is not None and request.method == "GET" and same(given, self.token):
            return self._welcome(request)
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        if same(request.cookies.get(self.cookie, ""), self.session) or same(bearer, self.token):
            return None
        return PlainTextResponse(STRANGER, status_code=401, headers={"WWW-Authenticate": "Bearer"})

    def _welcome(self, request: Request) -> RedirectResponse:
        """A cookie takes the place of the token in the address."""
        rest = [(k, v) for k, v in parse_qsl(request.url.query) if k != "token"]
        query = f"?{urlencode(rest)}" if rest else ""
        path = "/" + request.url.path.lstrip("/")  # //host would be another site
        found = RedirectResponse(path + query, status_code=303)
        found.set_cookie(self.cookie, self.session, httponly=True, samesite="lax")
        return found


def same(given: str, wanted: str) -> bool:
    """Whether two secrets are the same, in a time that does not tell how much of them is."""
    return hmac.compare_digest(given.encode(errors="replace"), wanted.encode())


def form_token(key: bytes) -> str:
    """What every form of ours carries, and nobody else knows."""
    return hmac.new(key, b"form", "sha256").hexdigest()


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
