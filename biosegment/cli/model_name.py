"""What ``PROJECT`` and ``PROJECT@VERSION`` name on the command line."""

from typing import TYPE_CHECKING

from biosegment.errors import ModelNotFoundError, ProjectNotFoundError, SettingsError
from biosegment.labelstudio.client import LabelStudioClient
from biosegment.settings import Settings

if TYPE_CHECKING:
    from ml_backend.model_registry import ModelRegistry


def find_model(
    text: str, settings: Settings, registry: "ModelRegistry", option: str
) -> tuple[int, str]:
    """Return project and version that ``PROJECT`` or ``PROJECT@VERSION`` names.

    The number that a version's name begins with is enough: ``PROJECT@7``.

    Raises
    ------
    SettingsError
        If the project has no model yet; `option` is what the user gave.
    ProjectNotFoundError
        If Label Studio has no such project.
    ModelNotFoundError
        If the project has no version of such a number.
    """
    from ml_backend.model_files import VERSION, number

    title, _, version = text.rpartition("@")
    if not title or not (version.isdecimal() or VERSION.fullmatch(version)):
        title, version = text, ""
    try:
        project_id = find_project(title, settings, registry)
    except ProjectNotFoundError:
        # The title of a project may look like it: Data@2019.
        project_id, version = find_project(text, settings, registry), ""
    if not version:
        serving = registry.current(project_id)
        if serving is None:
            raise SettingsError(option, f"names {text}, which has no trained model yet")
        return project_id, serving
    if not version.isdecimal():
        return project_id, version
    for card in registry.cards(project_id):
        if number(card.version) == int(version):
            return project_id, card.version
    raise ModelNotFoundError(project_id, version)


def find_project(title: str, settings: Settings, registry: "ModelRegistry") -> int:
    """Return the number of a project; Label Studio is asked unless it is that of one with models.

    Raises
    ------
    ProjectNotFoundError
        If Label Studio has no such project.
    """
    if title.isdecimal() and int(title) in registry.projects():
        return int(title)
    with LabelStudioClient(settings) as client:
        return int(client.find_project(title)["id"])
