import pytest

pytest.register_assert_rewrite("importers.preprocessing.testing")
