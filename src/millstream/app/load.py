"""From what a user names on the command line to the app: `plant.py`, `module`, or either with `:app`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from millstream.app.application import App
from millstream.app.place import Place, place_in
from millstream.app.problems import Problem, gathered
from millstream.errors import AppError


def load_app(target: str) -> App:
    """Import the file or module, and give its app. Where it has several, `:name` says which.

    Raises `AppError`: no such file or module, an error in it (with the user's own file and line), no app, several.
    """
    source, attribute = _split(target)
    module = _load_file(Path(source)) if source.endswith(".py") else _load_module(source)
    return _pick(module, attribute, source)


def source_folder(target: str) -> Path:
    """The folder of the app's sources: of its file, or where modules are looked for first."""
    source, _ = _split(target)
    return Path(source).resolve().parent if source.endswith(".py") else Path.cwd()


def find_problems(target: str) -> list[Problem]:
    """Everything that is wrong in an app, in the order of its lines; nothing is run but the file itself.

    Raises `AppError` where there is no app to look at."""
    with gathered() as told:
        try:
            told += load_app(target).problems()
        except AppError as error:
            if Problem.parse(str(error)).file is None:
                raise
            told.append(str(error))
    problems = [Problem.parse(line) for line in dict.fromkeys(told)]
    return sorted(problems, key=lambda one: (one.file or "", one.line or 0))


def _split(target: str) -> tuple[str, str | None]:
    source, colon, attribute = target.rpartition(":")
    if not colon or "/" in attribute or "\\" in attribute:  # a drive's colon is no separator
        return target, None
    return source, attribute


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise AppError(f"no file {str(path)!r} (the working folder is {Path.cwd()})")
    name = path.stem
    known = sys.modules.get(name)
    if known is not None and Path(getattr(known, "__file__", None) or "") != path.resolve():
        raise AppError(f"{path}: a module {name!r} is imported already; rename the file")
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    assert spec is not None and spec.loader is not None  # a .py file always has a loader
    _search_first(path.resolve().parent)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        sys.modules.pop(name, None)
        raise _as_app_error(error, str(path)) from error
    return module


def _load_module(name: str) -> ModuleType:
    _search_first(Path.cwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise AppError(
                f"no module {name!r} in {Path.cwd()} or among the installed packages; a file is named with .py"
            ) from None
        raise _as_app_error(error, name) from error
    except (Exception, SystemExit) as error:
        raise _as_app_error(error, name) from error


def _search_first(folder: Path) -> None:
    """Let the app import its neighbours, as a script can."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _as_app_error(error: BaseException, source: str) -> AppError:
    """The error in the user's code, with the innermost line that is the user's own; its cause has the whole story."""
    if isinstance(error, AppError):
        return error
    if isinstance(error, SyntaxError):
        return AppError(f"{Place(error.filename or source, error.lineno or 0)}: {type(error).__name__}: {error.msg}")
    if isinstance(error, SystemExit):
        return AppError(f"{source} ends the program while it is imported; put that under if __name__ == '__main__':")
    return AppError(f"{place_in(error) or source}: {type(error).__name__}: {error}")


def _pick(module: ModuleType, attribute: str | None, source: str) -> App:
    if attribute is not None:
        app = getattr(module, attribute, None)
        if not isinstance(app, App):
            raise AppError(f"{source} has no App named {attribute!r}{_others(module)}")
        return app
    apps = {id(value): (name, value) for name, value in vars(module).items() if isinstance(value, App)}
    if not apps:
        raise AppError(f"{source} has no App; write: app = App('name')")
    if len(apps) > 1:
        names = [name for name, _ in apps.values()]
        raise AppError(f"{source} has several apps ({', '.join(names)}); say which: {source}:{names[0]}")
    ((_, app),) = apps.values()
    return app


def _others(module: ModuleType) -> str:
    names = [name for name, value in vars(module).items() if isinstance(value, App)]
    return f"; it has {', '.join(names)}" if names else ""
