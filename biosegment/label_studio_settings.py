"""Django settings of the Label Studio that ``biosegment up`` starts.

Label Studio takes any Redis that it finds on port 6379 for its own job queue. If that one is the
machine's, nobody works on it, and no webhook would ever be sent. Without Redis, Label Studio sends
webhooks itself.
"""

# The base comes first: while the second is being imported, it reads settings from this module.
from core.settings.base import *  # type: ignore[import-not-found]  # noqa: F403
from label_studio.core.settings.label_studio import *  # noqa: F403
from label_studio.core.settings.label_studio import RQ_QUEUES

for queue in RQ_QUEUES.values():
    # Nothing can listen there.
    queue["PORT"] = 0
