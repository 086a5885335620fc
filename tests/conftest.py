"""What every test shares: no property is judged by its speed, and CI draws the same examples."""

import os

from hypothesis import settings

settings.register_profile("house", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("house")
