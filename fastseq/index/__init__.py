"""Building, changing and opening of indexes.

Nothing is imported here: describing an index needs only its kind and versions.
"""

KIND = "index"
VERSION = 2
VERSIONS = (1, 2)  # that can be read
