"""How Numba compiles kernels here: once each, and with less work than it does by default.

Three kinds of compiled functions, for the decorators of kernels/core/jit.py:

- A kernel is called from Python, and cached.
- A helper is called by kernels alone. Numba would optimise it and generate machine code for it
  by itself before each kernel gets a copy; here its intermediate code is linked into the kernels
  that call it, and only there optimised. An optimised helper is optimised once, with the helpers
  that it calls, before that: LLVM's decisions about it then do not depend on its callers.
- A shared function is called by kernels through its symbol, so that it is compiled and cached
  once and linked into none. Its body is written in LLVM's code, and not optimised further: LLVM
  would move the address arithmetic of every branch before the first.

Arguments that are constants do not give helpers and shared functions versions of their own.
Passes for what no kernel has (closures, `with`, array expressions) are left out.
"""

from __future__ import annotations

import importlib
from functools import cached_property, partial, update_wrapper
from typing import Any

import numba
from numba.core import typed_passes, types, untyped_passes
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase
from numba.core.compiler_machinery import PassManager, register_pass
from numba.core.registry import CPUDispatcher

# No fastmath: a score must have the same bits whether a loop was vectorised or not.
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "_nrt": False}

_CALLED = {**OPTIONS, "nopython": True, "boundscheck": None, "no_cfunc_wrapper": True}


class _Library(JITCodeLibrary):  # type: ignore[misc]
    """The code of a function and of every helper that it calls, each once."""

    def add_linking_library(self, library: Any) -> None:
        if load := getattr(library, "load", None):  # a shared function: found by its symbol
            self._reload_init.add(load)
        elif library not in self._linking_libraries:
            super().add_linking_library(library)
            if isinstance(library, _HelperLibrary):
                self._reload_init |= library._reload_init
                for called in library._linking_libraries:
                    self.add_linking_library(called)


class _HelperLibrary(_Library):
    def finalize(self) -> None:
        """Generate no machine code: a kernel does, with its own."""
        self._finalized = True


class _OptimisedLibrary(_HelperLibrary):
    def finalize(self) -> None:
        for library in self._linking_libraries:
            code = library._get_module_for_linking()
            self._final_module.link_in(code, preserve=True)
        self._linking_libraries = []
        self._optimize_final_module()
        super().finalize()


class _SharedLibrary(_Library):
    def _optimize_functions(self, module: Any) -> None:
        module.data_layout = self._codegen._data_layout

    def _optimize_final_module(self) -> None:
        pass


@register_pass(mutates_CFG=True, analysis_only=False)
class _HelperLowering(typed_passes.NativeLowering):  # type: ignore[misc]
    _name = "fastseq_helper_lowering"

    def run_pass(self, state: Any) -> bool:
        state.flags.no_compile = True
        changed: bool = super().run_pass(state)
        # what Numba finds the code by is the compiled function otherwise
        key = state.cr.fndesc
        state.cr = state.cr._replace(cfunc=key)
        state.targetctx.insert_user_function(key, key, [state.library])
        return changed


class _Typing:
    """Numba's typing context that remembers the signatures of operations on given types."""

    _known: dict[Any, Any] = {}  # noqa: RUF012

    def __init__(self, context: Any) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def resolve_function_type(self, function: Any, args: Any, kws: Any) -> Any:
        if kws or isinstance(function, str | types.BoundFunction):
            return self._context.resolve_function_type(function, args, kws)
        found = self._known.get((function, args))
        if found is None:
            found = self._context.resolve_function_type(function, args, kws)
            self._known[function, args] = found
        return found

    def resolve_getattr(self, kind: Any, name: str) -> Any:
        if not isinstance(kind, types.Module):
            return self._context.resolve_getattr(kind, name)
        found = self._known.get((kind, name))
        if found is None:
            found = self._known[kind, name] = self._context.resolve_getattr(kind, name)
        return found


def _refresh(context: Any) -> None:
    """Take in new intrinsics: Numba asks for it with each array, and then also repeats imports."""
    for registry in list(context._registries):
        context.install_registry(registry)


class _Compiler(CompilerBase):  # type: ignore[misc]
    library: type[_Library] = _Library
    lowering: type[Any] = typed_passes.NativeLowering

    def compile_extra(self, function: Any) -> Any:
        state = self.state
        state.typingctx = _Typing(state.typingctx)
        state.targetctx.refresh = partial(_refresh, state.targetctx)
        state.library = self.library(state.targetctx.codegen(), function.__qualname__)
        state.library.enable_object_caching()
        return super().compile_extra(function)

    def define_pipelines(self) -> list[PassManager]:
        manager = PassManager("kernel")
        for each in (
            untyped_passes.TranslateByteCode,
            untyped_passes.FixupArgs,
            untyped_passes.IRProcessing,
            untyped_passes.GenericRewrites,
            untyped_passes.ReconstructSSA,
            untyped_passes.DeadBranchPrune,
            typed_passes.NopythonTypeInference,
            typed_passes.PreLowerStripPhis,
            typed_passes.IRLegalization,
            self.lowering,
            typed_passes.NoPythonBackend,
        ):
            manager.add_pass(each)
        manager.finalize()
        return [manager]


class _HelperCompiler(_Compiler):
    library = _HelperLibrary
    lowering = _HelperLowering


class _OptimisedCompiler(_HelperCompiler):
    library = _OptimisedLibrary


class _SharedCompiler(_Compiler):
    library = _SharedLibrary

    def _compile_bytecode(self) -> Any:
        # the symbol is the same in every process, since other kernels' cached code names it
        self.state.func_id.unique_id = 0
        self.state.func_id.unique_name = self.state.func_id.func_qualname
        return super()._compile_bytecode()


class _Called(CPUDispatcher):  # type: ignore[misc]
    def get_call_template(self, args: Any, kws: Any) -> Any:
        kws = {name: types.unliteral(kind) for name, kind in kws.items()}
        return super().get_call_template([types.unliteral(kind) for kind in args], kws)


class _Helper(_Called):
    _alone: Any = None

    def add_overload(self, result: Any) -> None:
        self.overloads[tuple(result.signature.args)] = result

    def _compile_for_args(self, *args: Any, **kws: Any) -> Any:
        """A call from Python, as tests make it."""
        self._alone = self._alone or kernel(self.py_func)
        return self._alone._compile_for_args(*args, **kws)


class _Shared(_Called):
    def add_overload(self, result: Any) -> None:
        super().add_overload(result)
        function = self.py_func
        result.library.load = partial(
            _load, function.__module__, function.__qualname__, result.signature.args
        )


def _load(module: str, name: str, args: tuple[Any, ...]) -> None:
    """Compile a shared function or load it from the cache, before code that calls it is loaded."""
    getattr(importlib.import_module(module), name).compile(args)


def kernel(function: Any) -> Any:
    """A dispatcher of a function that Python calls."""
    options: Any = {"no_cfunc_wrapper": True, **OPTIONS}
    return numba.njit(pipeline_class=_Compiler, **options)(function)


class _LazyHelper:
    """A dispatcher that is made when a kernel that calls it is compiled: to make those of all
    helpers would take 20 ms of every process, which has its kernels from the cache."""

    def __init__(self, function: Any, optimised: bool, options: dict[str, Any]) -> None:
        update_wrapper(self, function)
        self._optimised, self._options = optimised, options

    @cached_property
    def dispatcher(self) -> Any:
        """The dispatcher."""
        options = {**_CALLED, "no_cpython_wrapper": True, **self._options}
        compiler = _OptimisedCompiler if self._optimised else _HelperCompiler
        return _Helper(self.__wrapped__, targetoptions=options, pipeline_class=compiler)  # type: ignore[attr-defined]

    @property
    def _numba_type_(self) -> Any:
        return self.dispatcher._numba_type_

    def __call__(self, *args: Any, **kws: Any) -> Any:
        return self.dispatcher(*args, **kws)


def helper(function: Any, optimised: bool = False, **options: Any) -> Any:
    """A function that kernels alone call; a call from Python compiles a kernel."""
    return _LazyHelper(function, optimised, options)


def shared(function: Any) -> Any:
    """A dispatcher of a function that kernels call through its symbol."""
    return _Shared(function, targetoptions=_CALLED, pipeline_class=_SharedCompiler)
