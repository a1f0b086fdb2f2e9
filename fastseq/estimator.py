"""scikit-learn's manners: settings by name, a short repr."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from fastseq.errors import SettingsError


class BaseEstimator:
    """An estimator whose constructor's parameters are attributes of the same names."""

    estimator_type: ClassVar[str | None] = None  # "classifier", "regressor"

    def _store(self, settings: Mapping[str, Any]) -> None:
        """Keep what the constructor was given, as it is: pass it locals()."""
        for name in self._names():
            setattr(self, name, settings[name])

    @classmethod
    def _names(cls) -> list[str]:
        return list(inspect.signature(cls).parameters)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The settings by name. `deep` is there for scikit-learn."""
        return {name: getattr(self, name) for name in self._names()}

    def set_params(self, **settings: Any) -> Self:
        """Change settings by name; fit again for them to count.

        Raises SettingsError for a name that is none.
        """
        names = self._names()
        for name in settings:
            if name not in names:
                raise SettingsError(
                    f"{type(self).__name__} has no setting {name!r}; it has {', '.join(names)}"
                )
        for name, value in settings.items():
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self)).parameters
        shown = [
            f"{name}={value!r}"
            for name, value in self.get_params().items()
            if value is not defaults[name].default and value != defaults[name].default
        ]
        return f"{type(self).__name__}({', '.join(shown)})"

    def __sklearn_tags__(self) -> Any:
        """Asked for by scikit-learn alone, which is then there to be imported."""
        from sklearn.utils import (  # type: ignore[import-untyped,unused-ignore]
            ClassifierTags,
            InputTags,
            Tags,
            TargetTags,
        )

        kind = self.estimator_type
        return Tags(
            estimator_type=kind,
            target_tags=TargetTags(required=kind is not None),
            classifier_tags=ClassifierTags() if kind == "classifier" else None,
            input_tags=InputTags(two_d_array=False, string=True),
        )


def plain(value: Any) -> Any:
    """A setting as JSON has it."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(plain(k)): plain(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [plain(v) for v in value]
    return value
