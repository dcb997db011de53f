"""Who may call the backend, and what browsers may do with its answers."""

import hmac
import logging
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from flask import Flask, Response, abort, jsonify, request

from biosegment.errors import SettingsError
from biosegment.settings import Settings

logger = logging.getLogger(__name__)

OPEN: Final = "contract_api.health"
"""The one route without credentials: it tells nothing but that the process is up."""
MIN_PASSWORD: Final = 16
"""Characters of a password that others may try: no limit on guesses keeps a shorter one."""
_PAGE_POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)
# Pictures have their colours in themselves; a browser that opens one alone runs nothing in it.
_PICTURE_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"


def check_credentials(settings: Settings) -> None:
    """Raise unless the credentials are good enough for where the backend is reached.

    Raises
    ------
    SettingsError
        When its address is not this machine's, and it asks for no password, or a short one.
    """
    host = urlsplit(settings.backend_url).hostname or ""
    if _is_this_machine(host):
        return
    if not settings.basic_auth_user:
        reason = f"and BASIC_AUTH_PASS must be set, for others can reach {settings.backend_url}"
        raise SettingsError("BASIC_AUTH_USER", reason)
    if len(settings.basic_auth_pass) < MIN_PASSWORD:
        reason = f"must have {MIN_PASSWORD} characters or more: others can try to guess it"
        raise SettingsError("BASIC_AUTH_PASS", reason)


def guard(app: Flask, settings: Settings) -> None:
    """Let an application check who calls it, and tell browsers how far to trust its answers."""
    app.before_request(lambda: _authorise(settings))
    app.before_request(_refuse_other_sites)
    app.after_request(_protect)


def _authorise(settings: Settings) -> Response | None:
    """Refuse whoever does not know the credentials, or is elsewhere when there are none."""
    if request.endpoint == OPEN:
        return None
    if not settings.basic_auth_user:
        _refuse_other_machines()
        return None
    given = request.authorization
    known = given is not None and given.type == "basic"
    name = (given.username or "") if known and given else ""
    password = (given.password or "") if known and given else ""
    # Both are compared, whichever is wrong, so that the time it takes tells neither.
    right_name = hmac.compare_digest(name.encode(), settings.basic_auth_user.encode())
    right_password = hmac.compare_digest(password.encode(), settings.basic_auth_pass.encode())
    if right_name and right_password:
        return None
    if given is not None:
        logger.warning("refused wrong credentials from %s", request.remote_addr)
    answer = jsonify(error="This backend asks for the user and password it was started with.")
    answer.status_code = 401
    answer.headers["WWW-Authenticate"] = 'Basic realm="BioSegment"'
    return answer


def _refuse_other_machines() -> None:
    """Refuse what comes from elsewhere, also through a proxy, or by a name that is not ours.

    A page of another site can give its own name the address of this machine; browsers then take
    the backend for a part of that site (DNS rebinding).
    """
    try:
        host = urlsplit(f"//{request.host}").hostname or ""
    except ValueError:
        host = ""
    # A Unix socket has no address.
    came_from = request.remote_addr or "localhost"
    forwarded = {"Forwarded", "X-Forwarded-For"} & {name for name, _ in request.headers}
    if forwarded or not (_is_this_machine(came_from) and _is_this_machine(host)):
        abort(
            403,
            "This backend has no credentials, so it answers only its own machine; set "
            "BASIC_AUTH_USER and BASIC_AUTH_PASS.",
        )


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _refuse_other_sites() -> None:
    """Refuse a change that a page of another site asks for, with the user's own credentials.

    Browsers say where a request comes from: all of today's in Sec-Fetch-Site if the backend has an
    encrypted or local address, and in Origin otherwise. Label Studio and other programs say
    nothing.

    References
    ----------
    https://cheatsheetseries.owasp.org/cheatsheets/Cross-Site_Request_Forgery_Prevention_Cheat_Sheet.html
    and https://www.w3.org/TR/fetch-metadata/.
    """
    if request.method in {"GET", "HEAD", "OPTIONS"}:
        return
    site = request.headers.get("Sec-Fetch-Site")
    if site is None:
        origin = request.headers.get("Origin")
        ours = origin is None or origin.partition("://")[2] == request.host
    else:
        ours = site in {"same-origin", "none"}
    if not ours:
        abort(403, "Another site asked for this; use this backend's own pages.")


def _protect(answer: Response) -> Response:
    """Tell browsers to run nothing, to show answers nowhere else, and to keep none."""
    is_picture = (answer.mimetype or "").startswith("image/")
    headers = answer.headers
    headers["Content-Security-Policy"] = _PICTURE_POLICY if is_picture else _PAGE_POLICY
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "no-referrer"
    headers["Cross-Origin-Resource-Policy"] = "same-origin"
    # The status page is loaded anew every few seconds, with all its pictures.
    headers["Cache-Control"] = "private, max-age=60" if is_picture else "no-store"
    return answer
