"""Building, changing and opening of indexes.

Nothing is imported here: describing an index needs only its kind and versions.
"""

KIND = "index"
VERSION = 3
VERSIONS = (1, 2, 3)  # that can be read
