"""Label Studio's HTTP API, as far as the loop needs it; label-studio-sdk wherever it has the call.

Addresses and payloads: https://api.labelstud.io. What the calls were seen to do in Label Studio
1.23 is said where it is not what their names promise.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Final, cast

from label_studio_sdk.core.api_error import ApiError
from label_studio_sdk.types.webhook import Webhook

from biosegment.errors import LabelStudioError, ProjectNotFoundError
from biosegment.labelstudio.connection import Connection, authorization_header, is_answer
from biosegment.labelstudio.data_manager import (
    ALL_VIEW_TITLE,
    HIDDEN_COLUMNS,
    LABELLED,
    RANK_VIEW_TITLE,
    UNLABELLED,
    DataRanges,
    after,
    data_filter,
    predicted_by,
    view_title,
)
from biosegment.labelstudio.payloads import (
    BATCH,
    NEUTRAL_SCORE,
    Json,
    prediction_batches,
    untrained_prediction,
)
from biosegment.progress import Progress, ignore
from biosegment.settings import LoopOptions

BACKEND_TITLE: Final = "BioSegment"
PAGE: Final = 500
"""Tasks asked for in one request."""
FULL_PAGE: Final = 100
"""The same of tasks with their masks."""
SLOW: Final = {"timeout_in_seconds": 900.0}
"""Options of a request that takes longer the more predictions a project has."""


class LabelStudioClient(Connection):
    """One Label Studio, spoken to with one user's token: projects, tasks, and what is connected.

    Every method raises `LabelStudioError` when the server cannot be reached or refuses, and
    `AuthenticationError` when it refuses the token.
    """

    # Projects

    def check(self) -> None:
        """Raise unless Label Studio answers and takes the token."""
        self._json("GET", "api/current-user/whoami")

    def projects(self) -> list[Json]:
        """Return ``id``, ``title``, ``model_version`` and counts of all projects."""
        wanted = "id,title,model_version,task_number,num_tasks_with_annotations"
        found: list[Json] = []
        page = 1
        while True:
            params = {"page": page, "page_size": PAGE, "include": wanted}
            answer = self._json("GET", "api/projects/", params=params)
            found += answer["results"]
            if not answer["next"]:
                return found
            page += 1

    def project(self, project_id: int) -> Json:
        """Return one project, ``label_config`` and ``model_version`` included."""
        return cast("Json", self._json("GET", f"api/projects/{project_id}/"))

    def has_project(self, project_id: int) -> bool:
        """Return whether there is a project of this number."""
        return any(project["id"] == project_id for project in self.projects())

    def find_project(self, name: str) -> Json:
        """Return the project with this title, or with this number.

        Raises
        ------
        ProjectNotFoundError
            When there is none, or several have the title.
        """
        projects = self.projects()
        same = [p for p in projects if name in {p["title"], str(p["id"])}]
        if len(same) != 1:
            titles = [f"{p['title']} (number {p['id']})" for p in projects]
            raise ProjectNotFoundError(self.url, name, titles)
        return self.project(same[0]["id"])

    def create_project(self, title: str, label_config: str) -> Json:
        """Return a new project, ordered by prediction score and prelabelled by the model."""
        with self._errors():
            created = self._sdk.projects.create(
                title=title,
                label_config=label_config,
                sampling="Uncertainty sampling",
                show_collab_predictions=True,
                show_instruction=False,
            )
        return self.project(created.id)

    def set_model_version(self, project_id: int, version: str) -> None:
        """Make one version's predictions order the queue and prelabel its tasks."""
        with self._errors():
            self._sdk.projects.update(project_id, model_version=version)

    def model_versions(self, project_id: int) -> list[str]:
        """Return the versions that the project holds predictions of."""
        counts = self._json("GET", f"api/projects/{project_id}/model-versions/")
        return list(counts)

    def delete_predictions(self, project_id: int, version: str) -> None:
        """Delete a version's predictions; what is open and began as one is then refused."""
        path = f"api/projects/{project_id}/model-versions/"
        self._request("DELETE", path, json={"model_version": version}, request_options=SLOW)

    # Tasks

    def tasks(self, project_id: int, progress: Progress = ignore) -> list[Json]:
        """Return ``id``, ``data``, ``is_labeled`` and ``total_annotations`` of all tasks."""
        include = "id,data,is_labeled,total_annotations"
        params = {"fields": "task_only", "include": include, "page_size": PAGE}
        return self._tasks(project_id, {}, params, progress)

    def tasks_with(self, project_id: int, data: DataRanges, limit: int | None = None) -> list[Json]:
        """Return ``id``, ``data`` and ``is_labeled`` of the tasks whose data are as asked for.

        Parameters
        ----------
        project_id
            Number of the project.
        data
            Keys of the tasks' data, and the value of each or a range of numbers, both ends
            included.
        limit
            How many tasks at most; None for all.
        """
        params = {
            "fields": "task_only",
            "include": "id,data,is_labeled",
            "page_size": limit or PAGE,
        }
        query = {"filters": data_filter(data)}
        if limit is None:
            return self._tasks(project_id, query, params, ignore)
        params |= {"project": project_id, "query": json.dumps(query)}
        return cast("list[Json]", self._json("GET", "api/tasks/", params=params)["tasks"])

    def last_change(self, project_id: int) -> str:
        """Return when a task was last annotated or changed; empty when there is none."""
        params = {"fields": "task_only", "include": "id,updated_at", "page_size": 1}
        params |= {"project": project_id, "query": '{"ordering": ["-tasks:updated_at"]}'}
        found = self._json("GET", "api/tasks/", params=params)["tasks"]
        return str(found[0]["updated_at"]) if found else ""

    def predicted_tasks(self, project_id: int, version: str) -> set[int]:
        """Return the numbers of the tasks that have a prediction of a version (`predicted_by`)."""
        params = {"fields": "task_only", "include": "id", "page_size": PAGE}
        found = self._tasks(project_id, {"filters": predicted_by(version)}, params, ignore)
        return {task["id"] for task in found}

    def awaits_predictions(self, project_id: int, version: str) -> bool:
        """Return whether an unlabelled task has no prediction of a version (`predicted_by`)."""
        items = [*UNLABELLED["items"], *predicted_by(version)["items"]]
        predicted = self._count(project_id, {"conjunction": "and", "items": items})
        return predicted < self._count(project_id, UNLABELLED)

    def _count(self, project_id: int, filters: Json) -> int:
        params = {"project": project_id, "fields": "task_only", "include": "id", "page_size": 1}
        params["query"] = json.dumps({"filters": filters})
        return int(self._json("GET", "api/tasks/", params=params)["total"])

    def annotated_tasks(self, project_id: int, progress: Progress = ignore) -> list[Json]:
        """Return ``id``, ``data`` and ``annotations``, in full, of all tasks that have some.

        Not by Label Studio's export, which keeps a file of each, and was seen to answer nothing
        when two ran at once.
        """
        # The names of an annotation's fields stand beside those of the task's.
        include = "id,data,annotations,result,was_cancelled,created_at,updated_at,lead_time"
        params = {"fields": "all", "include": include, "page_size": FULL_PAGE}
        return self._tasks(project_id, {"filters": LABELLED}, params, progress)

    def _tasks(self, project_id: int, query: Json, params: Json, progress: Progress) -> list[Json]:
        """Return all tasks that a Data Manager query finds, a page at a time, in order of number.

        Each page begins behind the last task of the one before. So a task that was there all the
        time is there exactly once, whatever others come and go meanwhile.
        """
        tasks: list[Json] = []
        while True:
            beyond = after(tasks[-1]["id"] if tasks else 0, query.get("filters"))
            page = {"project": project_id, "query": json.dumps(query | {"filters": beyond})}
            answer = self._json("GET", "api/tasks/", params=params | page)
            tasks += answer["tasks"]
            left = answer["total"] - len(answer["tasks"])
            progress(len(tasks), len(tasks) + left)
            if left <= 0 or not answer["tasks"]:
                return tasks

    def head_of_queue(self, project_id: int, size: int) -> list[Json]:
        """Return ``id``, ``data`` and ``predictions_score`` of the tasks to be labelled next."""
        query = {"ordering": ["tasks:predictions_score"], "filters": UNLABELLED}
        include = "id,data,predictions_score"
        params = {"project": project_id, "fields": "all", "include": include, "page_size": size}
        answer = self._json("GET", "api/tasks/", params=params | {"query": json.dumps(query)})
        return cast("list[Json]", answer["tasks"])

    def create_tasks(
        self, project_id: int, data: Sequence[Json], progress: Progress = ignore, first: int = 0
    ) -> None:
        """Create a task for each ``data``, in batches; serve the `first` of a new project first.

        Label Studio would draw them at random as long as no task has a score. It takes the version
        of the first scores for the one that orders the queue.
        """
        tasks: list[Json] = [{"data": each} for each in data]
        for place, task in enumerate(tasks[:first]):
            task["predictions"] = [untrained_prediction(NEUTRAL_SCORE * place / first)]
        for start in range(0, len(tasks), BATCH):
            batch = tasks[start : start + BATCH]
            self._request("POST", f"api/projects/{project_id}/import", json=batch)
            progress(start + len(batch), len(tasks))

    def add_task(self, project_id: int, data: Json, prediction: Json) -> int:
        """Create one task and its prediction, in one go, and return its number."""
        path = f"api/projects/{project_id}/import"
        task = {"data": data, "predictions": [prediction]}
        answer = self._json("POST", path, params={"return_task_ids": True}, json=[task])
        return int(answer["task_ids"][0])

    def next_task(self, project_id: int) -> Json | None:
        """Return the task that Label Studio serves this user next, None when all are labelled."""
        try:
            return cast("Json", self._json("GET", f"api/projects/{project_id}/next"))
        except LabelStudioError as exc:
            if is_answer(exc, 404):
                return None
            raise

    def annotate(self, task_id: int, regions: Sequence[Json], lead_time_s: float) -> Json:
        """Submit an annotation as this user and return it."""
        body = {"result": list(regions), "lead_time": lead_time_s}
        return cast("Json", self._json("POST", f"api/tasks/{task_id}/annotations/", json=body))

    def import_predictions(
        self, project_id: int, predictions: Sequence[Json], progress: Progress = ignore
    ) -> None:
        """Store predictions (``task``, ``result``, ``score``, ``model_version``), in batches.

        Those of tasks that were deleted meanwhile are left out. All are of one version.
        """
        path = f"api/projects/{project_id}/import/predictions"
        sent = 0
        for batch in prediction_batches(predictions):
            try:
                self._request("POST", path, json=batch, request_options=SLOW)
            except LabelStudioError as exc:
                if not is_answer(exc, 400):
                    raise
                # A task is gone. What stood before it may be stored, or nothing of the batch.
                present = {task["id"] for task in self.tasks(project_id)}
                gone = {each["task"] for each in batch} - present
                if not gone:
                    raise
                stored = self.predicted_tasks(project_id, batch[0]["model_version"])
                kept = [each for each in batch if each["task"] not in gone | stored]
                if kept:
                    self._request("POST", path, json=kept, request_options=SLOW)
            sent += len(batch)
            progress(sent, len(predictions))

    # Connections of a project

    def connect_storage(self, project_id: int, path: str) -> None:
        """Let Label Studio serve the files of a folder under its local-files root, once."""
        with self._errors():
            present = self._sdk.import_storage.local.list(project=project_id)
            if all(storage.path != path for storage in present):
                self._sdk.import_storage.local.create(
                    project=project_id, path=path, title="BioSegment tiles", use_blob_urls=True
                )

    def connect_backend(self, project_id: int, options: LoopOptions) -> None:
        """Connect the ML backend and its webhook, with credentials, or mend what is there.

        Label Studio makes the webhook itself when a backend is added, but without the backend's
        credentials: a backend that demands them would never hear of an annotation.
        """
        settings = self._settings
        extra_params = asdict(options)
        auth: Json = {"auth_method": "NONE"}
        if settings.basic_auth_user:
            auth = {
                "auth_method": "BASIC_AUTH",
                "basic_auth_user": settings.basic_auth_user,
                "basic_auth_pass": settings.basic_auth_pass,
            }
        with self._errors():
            backends = [b for b in self._sdk.ml.list(project=project_id) if self._is_ours(b.url)]
            if not backends:
                try:
                    self._sdk.ml.create(
                        project=project_id,
                        url=settings.backend_url,
                        title=BACKEND_TITLE,
                        extra_params=extra_params,
                        timeout=100.0,
                        **auth,
                    )
                except ApiError as exc:
                    if exc.status_code != 400:
                        raise
                    reason = (
                        f"it cannot reach the ML backend at {settings.backend_url}; start that, or "
                        "set BIOSEGMENT_BACKEND_URL to its address, and import again"
                    )
                    raise LabelStudioError(self.url, reason) from exc
            elif backends[0].extra_params != extra_params:
                self._sdk.ml.update(
                    backends[0].id,
                    project=project_id,
                    url=settings.backend_url,
                    extra_params=extra_params,
                    **auth,
                )
        self.connect_webhook(project_id)

    def connect_webhook(self, project_id: int) -> None:
        """Give the project's webhook to the backend its credentials, making it if need be."""
        with self._errors():
            hooks = self._webhooks(project=str(project_id))
            if not hooks:
                self._sdk.webhooks.create(
                    project=project_id,
                    url=self._webhook_url,
                    headers=authorization_header(self._settings),
                    send_payload=True,
                    send_for_all_actions=True,
                )
            self._mend(hooks)

    def connected_projects(self, *, mend: bool = False) -> list[int]:
        """Return the numbers of the projects whose webhook calls this backend.

        With `mend`, each of these webhooks is given the backend's credentials.
        """
        with self._errors():
            hooks = self._webhooks()
            if mend:
                self._mend(hooks)
        return sorted({hook.project for hook in hooks if hook.project})

    def _webhooks(self, **of: str) -> list[Webhook]:
        return [hook for hook in self._sdk.webhooks.list(**of) if hook.url == self._webhook_url]

    def _mend(self, hooks: Sequence[Webhook]) -> None:
        headers = authorization_header(self._settings)
        for hook in hooks:
            if (hook.headers or {}) != headers or not hook.is_active:
                self._sdk.webhooks.update(hook.id, headers=headers, is_active=True)

    def loop_options(self, project_id: int) -> LoopOptions | None:
        """Return the options that the project's connection holds; None if it is not connected.

        Not from Label Studio's list of backends: to answer that, it calls each of them twice.
        """
        params = {"extended": True, "include_live_models": True, "limit": 1}
        answer = self._json("GET", f"api/projects/{project_id}/model-versions/", params=params)
        for backend in answer["live"]:
            if self._is_ours(backend["url"]):
                values = backend["extra_params"]
                return self._settings.loop.updated(values if isinstance(values, Mapping) else {})
        return None

    def add_views(self, project_id: int) -> None:
        """Add two Data Manager tabs, once: the queue in its order, and all tasks."""
        with self._errors():
            present = {view_title(view) for view in self._sdk.views.list(project=project_id)}
        queue = {"ordering": ["tasks:predictions_score"], "filters": UNLABELLED}
        for title, shown in ((RANK_VIEW_TITLE, queue), (ALL_VIEW_TITLE, {})):
            if title not in present:
                data = {"title": title, "hiddenColumns": HIDDEN_COLUMNS, **shown}
                body = {"project": project_id, "data": data}
                self._request("POST", "api/dm/views/", json=body)

    @property
    def _webhook_url(self) -> str:
        return f"{self._settings.backend_url}/webhook"

    def _is_ours(self, url: str) -> bool:
        return url.rstrip("/") == self._settings.backend_url
