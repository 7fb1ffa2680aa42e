"""Turns a configuration file and options into settings, and settings back into a file."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from rl_training.config import Option, OutputConfig, PPOConfig, RunConfig, Settings
from rl_training.environments.growing.options import GrowingOptions
from rl_training.environments.heads.rewards import HeadsOptions
from rl_training.run.yaml_dumper import write_yaml
from rl_training.run.yaml_loader import Loader
from rl_training.setting_kinds import Remedy

SECTIONS: Mapping[str, type] = {"run": RunConfig, "learning": PPOConfig, "output": OutputConfig}
ENVIRONMENTS: Mapping[str, type] = {"growing-network": GrowingOptions, "heads": HeadsOptions}
"""Environments whose arguments are checked here; a registered Gymnasium id gets its arguments unchecked."""

HIDDEN = "(hidden)"
"""In place of a secret. Fed back, it is refused as what it stands for."""

OWN_ENVIRONMENT = "CartPole-v1, or module:Name-v0 after an import of module that registers it"

_STRICT = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)

Values = Mapping[str, Mapping[str, Any]]
"""Values by section and key."""


class SettingsError(ValueError):
    """An impossible setting; the message names it, the reason and the remedy."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its key, which is the option without its dashes, its field, type, and help."""

    key: str
    field: Field[Any]
    type: Any
    option: Option

    @property
    def default(self) -> Any:
        """The value when neither file nor command line gives one."""
        made = self.field.default_factory
        return self.field.default if made is MISSING else made()

    def check(self, value: Any, *, strict: bool) -> Any:
        """The value in its type; without ``strict``, converted from text. Raises SettingsError."""
        try:
            return TypeAdapter(self.type, config=_STRICT).validate_python(
                value, strict=None if strict else False
            )
        except ValidationError as error:
            own = error.errors()[0].get("ctx", {}).get("error")
            raise SettingsError(
                str(own) if own else f"{value!r} is not possible; give {self.remedy}"
            ) from error

    @property
    def remedy(self) -> str:
        """What a valid value looks like."""
        return next(_remedies(self.type), "another value")


def _remedies(hint: Any) -> Iterator[str]:
    for part in (*getattr(hint, "__metadata__", ()), *get_args(hint)):
        if isinstance(part, Remedy):
            yield part.text
        else:
            yield from _remedies(part)


@cache
def settings_of(section: type) -> Mapping[str, Setting]:
    """The settings of a section by key, in order."""
    hints = get_type_hints(section, include_extras=True)
    found = {}
    for item in fields(section):
        described = item.metadata.get("option")
        if described is not None:
            key = described.name or item.name.replace("_", "-")
            found[key] = Setting(key, item, hints[item.name], described)
    return found


def arguments_of(environment: type) -> Mapping[str, Setting]:
    """The arguments of an environment by name."""
    hints = get_type_hints(environment, include_extras=True)
    return {
        item.name: Setting(item.name, item, hints[item.name], item.metadata.get("option", Option("")))
        for item in fields(environment)
    }


def read_config(path: Path) -> Values:
    """The values of a YAML file, checked; SettingsError with file, key and remedy, or file and line."""
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise SettingsError(f"{path}, line {line}: {error.problem}; correct the YAML") from error
    except RecursionError as error:
        raise SettingsError(f"{path}: values lie too deep in each other; correct the YAML") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise SettingsError(f"{path}: {reason}; give a YAML file that can be read") from error
    try:
        return checked_document(document)
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from error


def checked_document(document: Any) -> Values:
    """The values of a document that a file holds, checked. Raises SettingsError with key and remedy."""
    sections = _mapping({} if document is None else document, "the file")
    known = ("run", "environment", "learning", "output")
    values: dict[str, Mapping[str, Any]] = {}
    for name, content in sections.items():
        _require_known(name, known, "section", "")
        mapping = _mapping({} if content is None else content, f"section {name!r}")
        values[name] = dict(mapping) if name == "environment" else _checked_section(name, mapping)
    return values


def _checked_section(name: str, content: Mapping[str, Any]) -> Mapping[str, Any]:
    known = settings_of(SECTIONS[name])
    checked = {}
    for key, value in content.items():
        _require_known(key, tuple(known), "key", f"{name}.")
        checked[key] = _checked_value(known[key], f"{name}.{key}", value)
    return checked


def _checked_value(setting: Setting, path: str, value: Any) -> Any:
    try:
        return setting.check(value, strict=True)
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from error


def _mapping(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise SettingsError(f"{what} holds {value!r} where keys and values belong; write for example seed: 1")
    return value


def _require_known(key: object, known: tuple[str, ...], what: str, path: str) -> None:
    if key not in known:
        # A far one would mislead: of the keys of "learning", "clip" is the nearest to "lr".
        near = difflib.get_close_matches(str(key), known, n=1)
        valid = f"the nearest valid one is {path + near[0]!r}" if near else f"valid are {', '.join(known)}"
        raise SettingsError(f"unknown {what} {path + str(key)!r}; {valid}")


def build_settings(file: Values, options: Values) -> Settings:
    """Settings from the values of a file and of the command line; the command line wins."""
    parts = {name: _section(name, file.get(name, {}), options.get(name, {})) for name in SECTIONS}
    arguments = {**file.get("environment", {}), **options.get("environment", {})}
    environment = _environment(parts["run"].env, arguments)
    if not any("minibatches" in values.get("learning", {}) for values in (file, options)):
        # The default is for runs of many environments; a smaller run needs not say so.
        parts_of_a_pass = min(parts["learning"].minibatches, parts["run"].num_envs)
        parts["learning"] = replace(parts["learning"], minibatches=parts_of_a_pass)
    return Settings(environment=environment, **parts)


def require_trainable(settings: Settings) -> None:
    """Raise SettingsError for settings that are possible, but not together in one run."""
    environments, learning = settings.run.num_envs, settings.learning
    if environments * learning.rollout_steps == 1:
        raise SettingsError(
            "--num-envs 1 with --rollout-steps 1 leaves one step in an update, whose advantage cannot be "
            "normalized; give 2 or more of either"
        )
    if learning.minibatches > environments:
        raise SettingsError(
            f"--minibatches {learning.minibatches} are more than --num-envs {environments}, "
            f"and each is of whole environments; give {environments} or fewer, or more environments"
        )


def _section(name: str, file: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
    known = settings_of(SECTIONS[name])
    values = {**file, **options}
    for key in file.keys() & options.keys():
        if isinstance(file[key], Mapping):
            values[key] = {**file[key], **options[key]}
    return SECTIONS[name](**{known[key].field.name: value for key, value in values.items()})


def _environment(name: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    if name not in ENVIRONMENTS:
        return dict(arguments)
    known = arguments_of(ENVIRONMENTS[name])
    for key in arguments:
        _require_known(key, tuple(known), "key", "environment.")
    checked = {key: _checked_value(known[key], f"environment.{key}", value) for key, value in arguments.items()}
    try:
        return asdict(ENVIRONMENTS[name](**checked))
    except ValueError as error:
        raise SettingsError(str(error)) from error


def arguments_help() -> str:
    """What ``--help`` says about the arguments of this project's environments."""
    lines = []
    for environment, options in ENVIRONMENTS.items():
        lines.append(f"--env-arg of {environment}:")
        for argument in arguments_of(options).values():
            default = write_yaml(argument.default).split()[0]
            lines.append(f"  {f'{argument.key}={default}':<28} {argument.option.help}")
    lines.append(f"--env also takes a registered Gymnasium id: {OWN_ENVIRONMENT}")
    return "\n".join(lines)


def dump(settings: Settings, *, ascii_only: bool = False) -> str:
    """The whole effective configuration as YAML that can be fed back, but for secrets, which it hides.

    Raises SettingsError for an argument of the environment that no file can hold.
    """
    document: dict[str, Any] = {}
    for name in ("run", "environment", "learning", "output"):
        part = getattr(settings, name)
        if name == "environment":
            document[name] = {key: _writable(key, value) for key, value in part.items()}
        else:
            known = settings_of(SECTIONS[name])
            document[name] = {key: _shown(s, getattr(part, s.field.name)) for key, s in known.items()}
    return write_yaml(document, ascii_only=ascii_only)


def _writable(key: str, value: Any) -> Any:
    try:
        write_yaml(value)
    except ValueError as error:
        raise SettingsError(
            f"environment.{key}: no file can hold its value: {error}; "
            "give another one, or leave --print-config out"
        ) from error
    return value


def _shown(setting: Setting, value: Any) -> Any:
    """A value as the configuration shows it; a secret, which its field keeps out of reprs, stays hidden."""
    secret = not setting.field.repr and value is not None and not str(value).startswith("@")
    return HIDDEN if secret else plain(value)


def plain(value: Any) -> Any:
    """The value of a setting of a run, its learning or its output, in the types that YAML and JSON share."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


def settings_table() -> str:
    """Every option and key as a Markdown table."""
    rows = ["| section | option; the key is its name | default | meaning |", "| --- | --- | --- | --- |"]
    for name, section in SECTIONS.items():
        rows += [_row(name, setting) for setting in settings_of(section).values()]
    for environment, options in ENVIRONMENTS.items():
        for argument in arguments_of(options).values():
            meaning = f"{environment}: {argument.option.help}".removesuffix(": ")
            described = Option(meaning, f"{argument.key}=X")
            rows.append(_row("environment", replace(argument, key="env-arg", option=described)))
    return "\n".join(rows) + "\n"


def _row(section: str, setting: Setting) -> str:
    default = setting.default
    shown = f"`{write_yaml(default).split()[0]}`" if default or default == 0 else ""
    flag = f"--{setting.key} {setting.option.metavar}".strip()
    return f"| {section} | `{flag}` | {shown} | {setting.option.help} |"
