"""A model package becomes a version of a project, which serves and is trained on."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from biosegment.errors import ModelPackageError
from ml_backend.model_card import ModelCard
from ml_backend.model_package import PackageCard, read_package
from ml_backend.model_registry import ModelRegistry
from ml_backend.recipe import Recipe
from ml_backend.training import TrainingSpec


def add_package(
    path: Path,
    project_id: int,
    class_names: Sequence[str],
    strategy: str,
    registry: ModelRegistry,
) -> str:
    """Add the network of a package to a project's versions, let it serve, and return its version.

    For this project it has learned from no annotation yet, so the next training learns from all.
    A project whose recipe makes networks of other widths gets a recipe with those of the package:
    weights can only be trained on in a network of their own shape.

    Parameters
    ----------
    path
        The package, as ``biosegment export --format bioimageio`` writes it.
    project_id
        Number of the project in Label Studio.
    class_names
        Classes of the project, background first; the package's must be the same in this order.
    strategy
        Query strategy of the project.
    registry
        Nobody else may save versions of the project meanwhile.

    Raises
    ------
    ModelPackageError
        When the package cannot be read, or its classes are others.
    RecipeError
        When the project's own recipe cannot be read.
    DiskFullError
        When the disk takes no more; what served before goes on serving.
    ModelStorageError
        When the storage that models are shared through cannot be used.
    """
    network, package = read_package(path)
    if list(package.class_names) != list(class_names):
        reason = (
            f"its classes are {', '.join(package.class_names)}, and those of the project are "
            f"{', '.join(class_names)}; they have to be the same, in the same order"
        )
        raise ModelPackageError(path, reason)
    own = registry.recipe(project_id)
    recipe = own or Recipe.of(TrainingSpec(class_names))
    version = registry.next_version(project_id)
    registry.save(project_id, version, network, _card(package, strategy))
    if tuple(recipe.widths) != tuple(network.spec.widths):
        registry.set_recipe(project_id, replace(recipe, widths=tuple(network.spec.widths)))
    registry.promote(project_id, version)
    return version


def _card(package: PackageCard, strategy: str) -> ModelCard:
    return ModelCard(
        class_names=list(package.class_names),
        strategy=strategy,
        annotations={},
        left_out={},
        labels=0,
        lead_time_s=0.0,
        parent=None,
        training=dict(package.training),
        architecture=package.architecture,
        architecture_spec=dict(package.architecture_spec),
        normalisation=package.normalisation,
        software=dict(package.software),
        imported=asdict(package),
    )
