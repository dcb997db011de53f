"""Which label image a command means when it is not told."""

from biosegment.errors import SettingsError
from biosegment.store import VolumeStore


def only_labels(store: VolumeStore, *, objects: bool) -> str:
    """Return the only label image of objects, or of classes, that a volume has.

    Raises
    ------
    SettingsError
        If there is none, or there are several.
    """
    from biosegment.objects.instances import is_objects

    found = [name for name in store.label_names if is_objects(store, name) == objects]
    if len(found) == 1:
        return found[0]
    if found:
        raise SettingsError("--labels", f"is needed, for {store.name} has {', '.join(found)}")
    what, command = ("objects", "objects") if objects else ("labels of classes", "segment")
    reason = f"is needed, and {store.name} has no {what}: make them by `biosegment {command}`"
    raise SettingsError("--labels", reason)
