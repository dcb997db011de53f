"""One Label Studio, spoken to over HTTP: its token, and its errors in one sentence."""

import base64
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Self, cast
from urllib.parse import urljoin, urlsplit

import httpx
from label_studio_sdk import LabelStudio
from label_studio_sdk.core.api_error import ApiError

from biosegment.errors import AuthenticationError, LabelStudioError, UnsafeAddressError
from biosegment.labelstudio.payloads import error_detail
from biosegment.settings import Settings

TIMEOUT_S: Final = 60.0
MAX_FILE_BYTES: Final = 2**28
"""Of the image of a task."""
_FILE: Final = re.compile(r"data/|(tasks|projects)/\d+/(resolve|presign)/")
"""Paths where Label Studio serves files: its own, and those of a storage behind it."""


class Connection:
    """One Label Studio, spoken to with one user's token.

    Every method raises `LabelStudioError` when the server cannot be reached or refuses, and
    `AuthenticationError` when it refuses the token. A context manager: leaving it closes the
    connections.

    Parameters
    ----------
    settings
        Its address and the token: a legacy token, or an access token (JWT), which is exchanged
        and refreshed as needed.
    """

    def __init__(self, settings: Settings) -> None:
        self.url = settings.label_studio_url
        self._settings = settings
        self._http = httpx.Client(timeout=TIMEOUT_S, follow_redirects=False)
        with self._errors():
            self._sdk = LabelStudio(
                base_url=self.url,
                api_key=settings.label_studio_api_key or "missing",
                httpx_client=self._http,
                max_retries=0,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def download(self, address: str) -> bytes:
        """Return the file behind an address that a task gives.

        Whoever may import tasks chooses it, and it is fetched with the rights of our token: so
        nothing is fetched but what Label Studio serves as a file, and no more than an image has.

        Raises
        ------
        UnsafeAddressError
            When it points anywhere but to a file of this Label Studio.
        """
        content, _ = self.download_unless(address, "")
        return content or b""

    def download_unless(self, address: str, etag: str) -> tuple[bytes | None, str]:
        """Return the file behind an address, as `download` does, and its ETag, if it has one.

        Parameters
        ----------
        address
            That a task gives.
        etag
            Of what is known; if the file still has it, None is returned instead.
        """
        url = urljoin(f"{self.url}/", address)
        path = url.removeprefix(self.url).lstrip("/")
        if urlsplit(url)[:2] != urlsplit(self.url)[:2] or not _FILE.match(path):
            raise UnsafeAddressError(address, self.url)
        http = self._sdk._client_wrapper.httpx_client
        known = {"If-None-Match": etag} if etag else {}
        with self._errors(), http.stream(path, method="GET", headers=known) as response:
            if etag and response.status_code == httpx.codes.NOT_MODIFIED:
                return None, etag
            if response.status_code >= 300:
                response.read()
                raise ApiError(status_code=response.status_code, body=response.text)
            content = bytearray()
            for part in response.iter_bytes(2**20):
                content += part
                if len(content) > MAX_FILE_BYTES:
                    reason = f"/{path} has more than {MAX_FILE_BYTES} bytes"
                    raise LabelStudioError(self.url, reason)
        return bytes(content), response.headers.get("ETag", "")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except ApiError as exc:
            if exc.status_code == 401:
                raise AuthenticationError(self.url) from exc
            raise LabelStudioError(
                self.url, f"{exc.status_code}, {error_detail(exc.body)}"
            ) from exc
        except httpx.HTTPError as exc:
            raise LabelStudioError(self.url, f"it does not answer ({exc})") from exc

    def _request(self, method: str, path: str, **kwargs: Any) -> httpx.Response:  # noqa: ANN401
        """Send a request that the SDK has no call for, with its token handling."""
        with self._errors():
            # The SDK's generated calls go through this very object; it offers no public one.
            response = self._sdk._client_wrapper.httpx_client.request(path, method=method, **kwargs)
            if response.status_code >= 300:
                raise ApiError(status_code=response.status_code, body=response.text)
        return cast("httpx.Response", response)

    def _json(self, method: str, path: str, **kwargs: Any) -> Any:  # noqa: ANN401
        response = self._request(method, path, **kwargs)
        try:
            return response.json()
        except ValueError as exc:
            reason = "what answers is not Label Studio; check LABEL_STUDIO_URL"
            raise LabelStudioError(self.url, reason) from exc


def is_answer(error: LabelStudioError, status: int) -> bool:
    """Return whether an error is an answer of Label Studio with this HTTP status."""
    return isinstance(error.__cause__, ApiError) and error.__cause__.status_code == status


def authorization_header(settings: Settings) -> dict[str, str]:
    """Return the HTTP headers that carry the backend's credentials; none when it has none."""
    if not settings.basic_auth_user:
        return {}
    pair = f"{settings.basic_auth_user}:{settings.basic_auth_pass}".encode()
    return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
