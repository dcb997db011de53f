"""One Label Studio, spoken to over HTTP: its token, and its errors in one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Self, cast

import httpx
from label_studio_sdk import LabelStudio
from label_studio_sdk.core.api_error import ApiError

from biosegment.errors import AuthenticationError, LabelStudioError
from biosegment.labelstudio.payloads import error_detail
from biosegment.settings import Settings

TIMEOUT_S: Final = 60.0


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
